/** Numbers, sizes and times in the locale of the person who looks at them. */
const LOCALES = [...navigator.languages];

const integer = new Intl.NumberFormat(LOCALES, { maximumFractionDigits: 0 });
const decimal = new Intl.NumberFormat(LOCALES, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(LOCALES, { style: "percent", maximumFractionDigits: 0 });
const usd = new Intl.NumberFormat(LOCALES, { style: "currency", currency: "USD", maximumFractionDigits: 6 });
const day = new Intl.DateTimeFormat(LOCALES, { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat(LOCALES, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(LOCALES, { numeric: "auto", style: "short" });

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

export const formatNumber = (value: number): string => integer.format(value);

/** `share` is 0..1. */
export const formatPercent = (share: number): string => percent.format(share);

/** `amount` is a decimal number as the API has it. */
export const formatUsd = (amount: string): string => usd.format(Number(amount));

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

/** "1 page", "12 pages"; English, as the words around it. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${integer.format(number)} ${number === 1 ? one : many}`;
}
