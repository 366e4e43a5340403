/** Figures of use: what they are called, how they are written, and for which days. */
import { get, type Schemas } from "../api/client";
import { formatCompact, formatCompactUsd, formatCost, formatNumber } from "../text/format";

export type Usage = Schemas["UsageOut"];
export type UsageRow = Schemas["UsageRowOut"];
export type Figures = Schemas["UsageFiguresOut"];

export interface Metric {
  name: "tokens" | "cost" | "requests";
  title: string;
  /** Of one figure, from the bottom of a bar to its top. */
  parts: readonly { label: string; of: (figures: Figures) => number }[];
  /** The whole figure. */
  say: (figures: Figures) => string;
  /** A part of it. */
  format: (value: number) => string;
  formatAxis: (value: number) => string;
}

export const TOKENS: Metric = {
  name: "tokens",
  title: "Tokens",
  parts: [
    { label: "Input", of: (figures) => figures.input_tokens },
    { label: "Output", of: (figures) => figures.output_tokens },
  ],
  say: ({ input_tokens, output_tokens }) => formatNumber(input_tokens + output_tokens),
  format: formatNumber,
  formatAxis: formatCompact,
};
export const METRICS: readonly Metric[] = [
  TOKENS,
  {
    name: "cost",
    title: "Cost",
    parts: [{ label: "Cost", of: (figures) => Number(figures.cost_usd) }],
    say: sayCost,
    format: (value) => formatCost(String(value)),
    formatAxis: formatCompactUsd,
  },
  {
    name: "requests",
    title: "Requests",
    parts: [
      { label: "Answered", of: (figures) => figures.requests - figures.errors },
      { label: "Failed", of: (figures) => figures.errors },
    ],
    say: ({ requests }) => formatNumber(requests),
    format: formatNumber,
    formatAxis: formatCompact,
  },
];

/** A call without a known price is in no sum: that is said. */
export function sayCost({ cost_usd, unknown_cost_calls, requests }: Figures): string {
  if (unknown_cost_calls === 0) return formatCost(cost_usd ?? "0");
  return cost_usd === null || unknown_cost_calls === requests ? "Unknown" : `${formatCost(cost_usd)} and more`;
}

export const totalOf = (metric: Metric, figures: Figures): number =>
  metric.parts.reduce((sum, part) => sum + part.of(figures), 0);

/** Days of the UTC calendar such as "2026-01-31", the last one included. */
export interface Period {
  from: string;
  to: string;
}

const DAY_MS = 86_400_000;

export const today = (): string => toDay(Date.now());

const toDay = (time: number): string => new Date(time).toISOString().slice(0, 10);

/** The last days, today included. */
export const lastDays = (number: number): Period => ({ from: toDay(Date.now() - (number - 1) * DAY_MS), to: today() });

/** A month; 0 is the present one, up to its end. */
export function month(ago: number): Period {
  const now = new Date();
  const first = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - ago, 1);
  const last = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - ago + 1, 0);
  return { from: toDay(first), to: toDay(last) };
}

export function daysOf({ from, to }: Period): string[] {
  const first = Date.parse(from);
  const number = Math.floor((Date.parse(to) - first) / DAY_MS) + 1;
  return Array.from({ length: Math.max(0, number) }, (_, index) => toDay(first + index * DAY_MS));
}

export type Grouping = "day" | "model" | "user";

const PATH = "/api/v1/usage";

export async function loadUsage(period: Period, groupBy: Grouping, signal: AbortSignal): Promise<Usage> {
  const response = await get(pathOf(period, groupBy), { signal });
  return (await response.json()) as Usage;
}

/** Grouped by one or two things, with a comma. */
export const loadUsageCsv = async (period: Period, groupBy: string): Promise<Blob> =>
  (await get(`${pathOf(period, groupBy)}&format=csv`)).blob();

const pathOf = ({ from, to }: Period, groupBy: string): string =>
  `${PATH}?${new URLSearchParams({ from, to, group_by: groupBy })}`;

const NOTHING: Figures = {
  ...{ requests: 0, errors: 0, input_tokens: 0, cached_tokens: 0, output_tokens: 0 },
  ...{ cost_usd: "0", unknown_cost_calls: 0 },
};

export interface DayFigures extends Figures {
  day: string;
}

/** A row for each day, also for those on which nothing was used. */
export function fillDays(usage: Usage): DayFigures[] {
  const byDay = new Map(usage.rows.map((row) => [row.day, row]));
  return daysOf(usage).map((day) => ({ ...(byDay.get(day) ?? NOTHING), day }));
}
