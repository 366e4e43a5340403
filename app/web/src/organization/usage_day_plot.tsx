import type { TargetedKeyboardEvent, TargetedPointerEvent } from "preact";
import { useState } from "preact/hooks";
import { formatShortUtcDay, formatUtcDay } from "../text/format";
import { type DayFigures, type Metric, totalOf } from "./usage_data";

interface PlotProps {
  days: readonly DayFigures[];
  metric: Metric;
}

const MAX_LABELS = 4;
const MAX_LINES = 4;
// Up to here each label is narrower than the bar that it stands under.
const MAX_WIDE = 14;

/** A bar for each day. A slider: arrows go from day to day, and the values of that day stand above. */
export function DayPlot({ days, metric }: PlotProps) {
  const [chosen, setChosen] = useState<number | null>(null);
  const last = days.length - 1;
  const index = Math.min(chosen ?? last, last);
  const day = days[index];
  if (!day) return null;
  const ticks = ticksUpTo(Math.max(...days.map((each) => totalOf(metric, each))));
  const top = ticks.at(-1) ?? 1;

  function press(event: TargetedKeyboardEvent<HTMLDivElement>) {
    const moves: Record<string, number> = {
      ...{ ArrowRight: index + 1, ArrowUp: index + 1, ArrowLeft: index - 1, ArrowDown: index - 1 },
      ...{ PageUp: index + 7, PageDown: index - 7, Home: 0, End: last },
    };
    const next = moves[event.key];
    if (next === undefined) return;
    event.preventDefault();
    setChosen(Math.max(0, Math.min(last, next)));
  }

  function point(event: TargetedPointerEvent<HTMLDivElement>) {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    setChosen(Math.max(0, Math.min(last, Math.floor(((event.clientX - left) / width) * days.length))));
  }

  return (
    <div class="day-plot">
      <Readout day={day} metric={metric} />
      <div class="plot-frame" dir="ltr">
        <div class="plot-ticks" aria-hidden="true">
          {ticks.map((tick) => (
            <span key={tick} style={{ bottom: `${(tick / top) * 100}%` }}>
              {metric.formatAxis(tick)}
            </span>
          ))}
        </div>
        <div
          class="plot-area"
          role="slider"
          tabIndex={0}
          aria-label={`${metric.title} by day`}
          aria-valuemin={1}
          aria-valuemax={days.length}
          aria-valuenow={index + 1}
          aria-valuetext={sentenceOf(day, metric)}
          onKeyDown={press}
          onPointerDown={point}
          onPointerMove={point}
          onPointerLeave={() => setChosen(null)}
        >
          <Bars days={days} metric={metric} ticks={ticks} top={top} chosen={chosen === null ? null : index} />
        </div>
        <DayLabels days={days} />
      </div>
    </div>
  );
}

function Readout({ day, metric }: { day: DayFigures; metric: Metric }) {
  return (
    <p class="readout">
      <span class="faint">{formatUtcDay(day.day)}</span> <strong>{metric.say(day)}</strong>
      {metric.parts.length > 1 &&
        metric.parts.map((part, number) => (
          <span key={part.label} class="part">
            <span class={`swatch part-${number}`} />
            {part.label} {metric.format(part.of(day))}
          </span>
        ))}
    </p>
  );
}

interface BarsProps extends PlotProps {
  ticks: readonly number[];
  top: number;
  chosen: number | null;
}

function Bars({ days, metric, ticks, top, chosen }: BarsProps) {
  return (
    <svg viewBox={`0 0 ${days.length} 100`} preserveAspectRatio="none" aria-hidden="true">
      {ticks.map((tick) => (
        <line key={tick} x1={0} x2={days.length} y1={100 - (tick / top) * 100} y2={100 - (tick / top) * 100} />
      ))}
      {chosen !== null && <rect class="chosen" x={chosen} y={0} width={1} height={100} />}
      {days.map((day, index) => (
        <Bar key={day.day} day={day} metric={metric} x={index} top={top} />
      ))}
    </svg>
  );
}

function Bar({ day, metric, x, top }: { day: DayFigures; metric: Metric; x: number; top: number }) {
  let below = 0;
  return metric.parts.map((part, number) => {
    const height = (part.of(day) / top) * 100;
    below += height;
    if (height === 0) return null;
    return <rect key={part.label} class={`part-${number}`} x={x + 0.15} y={100 - below} width={0.7} height={height} />;
  });
}

function DayLabels({ days }: { days: readonly DayFigures[] }) {
  const step = Math.max(1, Math.ceil(days.length / MAX_LABELS));
  return (
    <div class={days.length > MAX_WIDE ? "plot-days dense" : "plot-days"} aria-hidden="true">
      {days.map(({ day }, index) => {
        if ((days.length - 1 - index) % step !== 0) return null;
        return (
          <span key={day} style={{ left: `${((index + 0.5) / days.length) * 100}%` }}>
            {formatShortUtcDay(day)}
          </span>
        );
      })}
    </div>
  );
}

function sentenceOf(day: DayFigures, metric: Metric): string {
  const parts = metric.parts.length > 1 ? metric.parts : [];
  const words = parts.map((part) => `${part.label.toLowerCase()} ${metric.format(part.of(day))}`);
  return [`${formatUtcDay(day.day)}: ${metric.say(day)}`, ...words].join(", ");
}

/** From 0 to a round number that is not below the value, in equal steps. */
function ticksUpTo(value: number): number[] {
  if (value <= 0) return [0, 1];
  const rough = value / MAX_LINES;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5].find((factor) => power * factor >= rough) ?? 10);
  const number = Math.ceil(value / step - 1e-9);
  return Array.from({ length: number + 1 }, (_, index) => index * step);
}
