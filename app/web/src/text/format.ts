/** Numbers, sizes and times in the locale of the person who looks at them. */
const LOCALES = [...navigator.languages];

const integer = new Intl.NumberFormat(LOCALES, { maximumFractionDigits: 0 });
const decimal = new Intl.NumberFormat(LOCALES, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(LOCALES, { style: "percent", maximumFractionDigits: 0 });
const usd = new Intl.NumberFormat(LOCALES, { style: "currency", currency: "USD", maximumFractionDigits: 6 });
const cents = new Intl.NumberFormat(LOCALES, { style: "currency", currency: "USD" });
// As exact as the API takes it.
const exactUsd = new Intl.NumberFormat(LOCALES, { style: "currency", currency: "USD", maximumFractionDigits: 9 });
const exact = new Intl.NumberFormat(LOCALES, { maximumFractionDigits: 9 });
const compact = new Intl.NumberFormat(LOCALES, { notation: "compact", maximumFractionDigits: 1 });
const compactUsd = new Intl.NumberFormat(LOCALES, {
  style: "currency",
  currency: "USD",
  maximumSignificantDigits: 3,
});
const calendarDay = new Intl.DateTimeFormat(LOCALES, { dateStyle: "medium", timeZone: "UTC" });
const shortDay = new Intl.DateTimeFormat(LOCALES, { day: "numeric", month: "short", timeZone: "UTC" });
const day = new Intl.DateTimeFormat(LOCALES, { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat(LOCALES, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(LOCALES, { numeric: "auto", style: "short" });

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

export const formatNumber = (value: number): string => integer.format(value);

/** `share` is 0..1. */
export const formatPercent = (share: number): string => percent.format(share);

/** `amount` is a decimal number as the API has it. */
export const formatUsd = (amount: string): string => usd.format(Number(amount));

/** In whole cents; less than ten of them more exactly. */
export const formatCost = (amount: string): string =>
  Math.abs(Number(amount)) >= 0.1 || Number(amount) === 0 ? cents.format(Number(amount)) : formatUsd(amount);

/** Every digit of a decimal number as the API has it. */
export const formatExactUsd = (amount: string): string => exactUsd.format(amount as Intl.StringNumericLiteral);

/** As `formatExactUsd`, of a number that is no money. */
export const formatDecimal = (amount: string): string => exact.format(amount as Intl.StringNumericLiteral);

/** "12K", for the axes of plots. */
export const formatCompact = (value: number): string => compact.format(value);

/** In three digits, for the axes of plots. */
export const formatCompactUsd = (value: number): string => compactUsd.format(value);

/** `date` is a day of the UTC calendar such as "2026-01-31". */
export const formatUtcDay = (date: string): string => calendarDay.format(new Date(date));

/** As `formatUtcDay`, without the year. */
export const formatShortUtcDay = (date: string): string => shortDay.format(new Date(date));

export const formatDay = (iso: string): string => day.format(new Date(iso));

export const formatMoment = (iso: string): string => moment.format(new Date(iso));

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const format = new Intl.NumberFormat(LOCALES, {
    style: "unit",
    unit: UNITS[unit] ?? "byte",
    unitDisplay: unit === 0 ? "long" : "short",
    maximumFractionDigits: value < 10 && unit > 0 ? 1 : 0,
  });
  return format.format(value);
}

/** "3 min. ago"; a date when it is more than a week ago. */
export function formatAgo(iso: string): string {
  const minutes = Math.floor((Date.now() - Date.parse(iso)) / 60_000);
  if (minutes < 1) return relative.format(0, "second");
  if (minutes < 60) return relative.format(-minutes, "minute");
  const days = daysAgo(iso);
  if (days === 0 || minutes < 6 * 60) return relative.format(-Math.floor(minutes / 60), "hour");
  return days < 7 ? relative.format(-days, "day") : formatDay(iso);
}

/** How many midnights of the person's calendar lie between then and now. */
export function daysAgo(iso: string): number {
  const midnight = (date: Date) => date.setHours(0, 0, 0, 0);
  // A day in which the clocks change has 23 or 25 hours.
  return Math.round((midnight(new Date()) - midnight(new Date(iso))) / 86_400_000);
}

export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${integer.format(milliseconds)} ms`;
  return `${decimal.format(milliseconds / 1000)} s`;
}

/** "40 seconds", "12 minutes", "5 hours"; English, as the words around it. */
export function formatWait(seconds: number): string {
  if (seconds < 120) return count(seconds, "second");
  return seconds < 2 * 3600 ? count(Math.ceil(seconds / 60), "minute") : count(Math.ceil(seconds / 3600), "hour");
}

/** "1 page", "12 pages"; English, as the words around it. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${integer.format(number)} ${number === 1 ? one : many}`;
}
