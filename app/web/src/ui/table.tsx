import type { ComponentChildren } from "preact";
import "./table.css";

export interface Column<T> {
  label: string;
  cell: (item: T) => ComponentChildren;
  isNumber?: boolean;
  /** Buttons: the header is for screen readers alone. */
  isActions?: boolean;
}

interface TableProps<T> {
  label: string;
  columns: readonly Column<T>[];
  items: readonly T[];
  keyOf: (item: T) => string | number;
}

/** Rows of facts; where there is little room each row is a card. The first column names the row. */
export function Table<T>({ label, columns, items, keyOf }: TableProps<T>) {
  const [name, ...others] = columns;
  // The roles are said again: a style sheet that makes cards of rows takes them away.
  return (
    <div class="table-box">
      <table class="table" role="table" aria-label={label}>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((column) => (
              <th key={column.label} role="columnheader" class={kindOf(column)}>
                <span class={column.isActions ? "visually-hidden" : undefined}>{column.label}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {items.map((item) => (
            <tr key={keyOf(item)} role="row">
              <th role="rowheader" scope="row">
                {name?.cell(item)}
              </th>
              {others.map((column) => (
                <td key={column.label} role="cell" class={kindOf(column)} data-label={column.label}>
                  <div>{column.cell(item)}</div>
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function kindOf<T>({ isNumber, isActions }: Column<T>): string | undefined {
  if (isActions) return "actions";
  return isNumber ? "number" : undefined;
}
