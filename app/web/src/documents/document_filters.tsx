import { useEffect, useState } from "preact/hooks";
import { useDebounced } from "../text/use_debounced";
import { SearchField } from "../ui/field";
import { COLUMNS } from "./documents_table";
import { filter, type StatusFilter, setFilter, sorting, tags } from "./list_state";

const STATUSES: readonly { status: StatusFilter; words: string }[] = [
  { status: "all", words: "Any status" },
  { status: "ready", words: "Ready" },
  { status: "active", words: "In progress" },
  { status: "failed", words: "Failed" },
];

/** Which documents are listed; where there are no column headers, also in which order. */
export function DocumentFilters() {
  const { status, tag } = filter.value;
  return (
    <div class="filters" role="search" aria-label="Documents">
      <NameFilter />
      <select
        aria-label="Status"
        value={status}
        onChange={(event) => setFilter({ status: STATUSES[event.currentTarget.selectedIndex]?.status ?? "all" })}
      >
        {STATUSES.map(({ status: value, words }) => (
          <option key={value} value={value}>
            {words}
          </option>
        ))}
      </select>
      {(tags.value.length > 0 || tag) && (
        <select aria-label="Tag" value={tag} onChange={(event) => setFilter({ tag: event.currentTarget.value })}>
          <option value="">Any tag</option>
          {[...new Set([...tags.value.map((each) => each.tag), ...(tag ? [tag] : [])])].map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
      )}
      <VisibilityFilter />
      <SortSelect />
    </div>
  );
}

function NameFilter() {
  const [name, setName] = useState(filter.value.name);
  const settled = useDebounced(name);
  useEffect(() => {
    if (settled !== filter.peek().name) setFilter({ name: settled });
  }, [settled]);
  // Somebody cleared the filter elsewhere.
  const applied = filter.value.name;
  useEffect(() => setName(applied), [applied]);
  return (
    <SearchField
      label="Find by name"
      maxLength={255}
      value={name}
      onInput={(event) => setName(event.currentTarget.value)}
    />
  );
}

function VisibilityFilter() {
  const { visibility } = filter.value;
  return (
    <select
      aria-label="Visible to"
      value={visibility}
      onChange={({ currentTarget: { value } }) =>
        setFilter({ visibility: value === "shared" || value === "private" ? value : "all" })
      }
    >
      <option value="all">Shared and private</option>
      <option value="shared">Shared</option>
      <option value="private">Private to you</option>
    </select>
  );
}

function SortSelect() {
  const { by, order } = sorting.value;
  function choose(value: string) {
    const chosen = COLUMNS.find(({ column }) => value.startsWith(column));
    if (chosen) sorting.value = { by: chosen.column, order: value.endsWith("asc") ? "asc" : "desc" };
  }
  return (
    <select
      class="sort-select"
      aria-label="Order"
      value={`${by} ${order}`}
      onChange={(event) => choose(event.currentTarget.value)}
    >
      {COLUMNS.map(({ column, label, ascending, descending }) => [
        <option key={`${column} asc`} value={`${column} asc`}>{`${label}: ${ascending}`}</option>,
        <option key={`${column} desc`} value={`${column} desc`}>{`${label}: ${descending}`}</option>,
      ])}
    </select>
  );
}
