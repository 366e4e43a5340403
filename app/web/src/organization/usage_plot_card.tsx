import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import type { Loaded } from "../api/use_loaded";
import { formatNumber } from "../text/format";
import { ErrorState, Loading } from "../ui/states";
import { type Column, Table } from "../ui/table";
import { type Figures, sayCost, type Usage } from "./usage_data";

interface PlotCardProps<T> {
  title: string;
  usage: Loaded<Usage>;
  rowsOf: (usage: Usage) => T[];
  /** The first column of the table. */
  name: Column<T>;
  keyOf: (row: T) => string;
  children: (rows: T[]) => ComponentChildren;
}

const FIGURES: readonly Column<Figures>[] = [
  { label: "Input tokens", isNumber: true, cell: ({ input_tokens }) => formatNumber(input_tokens) },
  { label: "Output tokens", isNumber: true, cell: ({ output_tokens }) => formatNumber(output_tokens) },
  { label: "Cost", isNumber: true, cell: sayCost },
  { label: "Requests", isNumber: true, cell: ({ requests }) => formatNumber(requests) },
  { label: "Failed", isNumber: true, cell: ({ errors }) => formatNumber(errors) },
];

/** A plot, and the table behind it: always there for screen readers, for others in its place. */
export function PlotCard<T extends Figures>({ title, usage, rowsOf, name, keyOf, children }: PlotCardProps<T>) {
  const [isTable, setTable] = useState(false);
  const id = useId();
  const { data, error, reload } = usage;
  if (!data) return error ? <ErrorState error={error} onRetry={reload} /> : <Loading />;
  const rows = rowsOf(data);
  const isEmpty = data.totals.requests === 0;
  return (
    <section class="card plot-card" aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {!isEmpty && (
          <button
            type="button"
            class="text-button"
            aria-label={`Table: ${title.toLowerCase()}`}
            aria-pressed={isTable}
            onClick={() => setTable(!isTable)}
          >
            Table
          </button>
        )}
      </header>
      {isEmpty && <p class="faint">Nothing was used on these days.</p>}
      {!isEmpty && !isTable && children(rows)}
      {!isEmpty && (
        <div class={isTable ? undefined : "visually-hidden"}>
          <Table label={`Usage ${title.toLowerCase()}`} columns={[name, ...FIGURES]} items={rows} keyOf={keyOf} />
        </div>
      )}
    </section>
  );
}
