import { Icon } from "../ui/icon";
import type { DocumentOut } from "./actions";
import { DocumentRow } from "./document_row";
import { isLoading, type SortColumn, select, selected, sortBy, sorting } from "./list_state";
import "./documents_table.css";

interface Column {
  column: SortColumn;
  label: string;
  ascending: string;
  descending: string;
}

export const COLUMNS: readonly Column[] = [
  { column: "name", label: "Name", ascending: "A to Z", descending: "Z to A" },
  { column: "status", label: "Status", ascending: "A to Z", descending: "Z to A" },
  { column: "pages", label: "Pages", ascending: "fewest first", descending: "most first" },
  { column: "size", label: "Size", ascending: "smallest first", descending: "largest first" },
  { column: "created", label: "Added", ascending: "oldest first", descending: "newest first" },
];

/** The roles are said again, for on a phone the style sheet makes cards of the rows. */
export function DocumentsTable({ documents }: { documents: readonly DocumentOut[] }) {
  return (
    <table class="documents-table" role="table" aria-label="Documents" aria-busy={isLoading.value}>
      <thead role="rowgroup">
        <tr role="row">
          <th role="columnheader" class="cell-check">
            <SelectAll documents={documents} />
          </th>
          {COLUMNS.map((each) => (
            <SortHeader key={each.column} {...each} />
          ))}
          <th role="columnheader" class="cell-menu">
            <span class="visually-hidden">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        {documents.map((document) => (
          <DocumentRow key={document.id} document={document} isSelected={selected.value.has(document.id)} />
        ))}
      </tbody>
    </table>
  );
}

function SortHeader({ column, label }: Column) {
  const { by, order } = sorting.value;
  const isSorted = by === column;
  const direction = order === "asc" ? "ascending" : "descending";
  return (
    <th role="columnheader" class={`cell-${column}`} aria-sort={isSorted ? direction : "none"}>
      <button
        type="button"
        class="sort-button"
        data-order={isSorted ? order : undefined}
        onClick={() => sortBy(column)}
      >
        {label}
        <Icon name="chevron-down" size={14} />
      </button>
    </th>
  );
}

function SelectAll({ documents }: { documents: readonly DocumentOut[] }) {
  const ids = documents.map(({ id }) => id);
  const number = ids.filter((id) => selected.value.has(id)).length;
  const isAll = number > 0 && number === ids.length;
  return (
    <label class="check">
      <input
        type="checkbox"
        aria-label="Select all that are shown"
        checked={isAll}
        indeterminate={number > 0 && !isAll}
        onChange={() => select(ids, !isAll)}
      />
    </label>
  );
}
