import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { usePages } from "../api/use_pages";
import { AuditFilters, NO_FILTER, queryOf } from "../organization/audit_filters";
import { AuditTable } from "../organization/audit_table";
import { useDebounced } from "../text/use_debounced";

const LINES = 50;
const NOBODY: ReadonlyMap<string, string> = new Map();

/** What was done in every organization. */
export function AdminAuditSection() {
  const [filter, setFilter] = useState(NO_FILTER);
  const [words, setWords] = useState("");
  const settled = useDebounced(words);
  const people = useLoaded((signal) => findPeople(settled, signal), [settled]).data ?? NOBODY;
  const query = queryOf(filter);
  const pages = usePages(
    (cursor, signal) => {
      const params = { query: { ...query, limit: LINES, ...(cursor && { cursor }) } };
      return read(api.GET("/api/v1/admin/audit-log", { params, signal }));
    },
    [JSON.stringify(query)],
  );
  return (
    <section class="card" aria-labelledby="audit-title">
      <h2 id="audit-title">Audit log of the deployment</h2>
      <AuditFilters filter={filter} onChange={setFilter} people={people} onFindPeople={setWords} />
      <AuditTable pages={pages} />
    </section>
  );
}

async function findPeople(query: string, signal: AbortSignal): Promise<Map<string, string>> {
  const { items } = await read(api.GET("/api/v1/admin/users", { params: { query: { query } }, signal }));
  return new Map(items.map(({ id, email }) => [id, email]));
}
