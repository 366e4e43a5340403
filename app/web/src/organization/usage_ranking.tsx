import { formatPercent } from "../text/format";
import { type Metric, totalOf, type UsageRow } from "./usage_data";

interface RankingProps {
  rows: readonly UsageRow[];
  metric: Metric;
  nameOf: (row: UsageRow) => string;
}

const MAX_BARS = 10;

export const modelName = ({ model }: UsageRow): string => model ?? "";

/** A bar for each row, the longest first. For screen readers there is the table. */
export function Ranking({ rows, metric, nameOf }: RankingProps) {
  const sorted = [...rows].sort((a, b) => totalOf(metric, b) - totalOf(metric, a));
  const total = sorted.reduce((sum, row) => sum + totalOf(metric, row), 0);
  const most = Math.max(...sorted.slice(0, 1).map((row) => totalOf(metric, row)), Number.MIN_VALUE);
  const left = sorted.length - MAX_BARS;
  return (
    <div aria-hidden="true">
      <ul class="ranking">
        {sorted.slice(0, MAX_BARS).map((row) => {
          const name = nameOf(row);
          const value = totalOf(metric, row);
          return (
            <li key={`${row.model} ${row.user_id}`} title={titleOf(row, metric, name)}>
              <span class="clip" dir="auto">
                {name}
              </span>
              <strong>{metric.say(row)}</strong>
              <span class="faint">{total > 0 && formatPercent(value / total)}</span>
              <RowBar row={row} metric={metric} most={most} />
            </li>
          );
        })}
      </ul>
      {left > 0 && <p class="faint">{`The other ${left} are in the table.`}</p>}
    </div>
  );
}

function RowBar({ row, metric, most }: { row: UsageRow; metric: Metric; most: number }) {
  let before = 0;
  return (
    <svg viewBox="0 0 100 1" preserveAspectRatio="none">
      {metric.parts.map((part, number) => {
        const width = (part.of(row) / most) * 100;
        const x = before;
        before += width;
        return <rect key={part.label} class={`part-${number}`} x={x} y={0} width={width} height={1} />;
      })}
    </svg>
  );
}

function titleOf(row: UsageRow, metric: Metric, name: string): string {
  return [name, ...metric.parts.map((part) => `${part.label}: ${metric.format(part.of(row))}`)].join("\n");
}
