import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { usePages } from "../api/use_pages";
import { AuditFilters, NO_FILTER, queryOf } from "./audit_filters";
import { AuditTable } from "./audit_table";
import { loadMemberNames } from "./member_names";

const LINES = 50;
const NOBODY: ReadonlyMap<string, string> = new Map();

/** For who manages the organization. */
export function AuditSection() {
  const [filter, setFilter] = useState(NO_FILTER);
  const people = useLoaded(loadMemberNames).data ?? NOBODY;
  const query = queryOf(filter);
  const pages = usePages(
    (cursor, signal) => {
      const params = { query: { ...query, limit: LINES, ...(cursor && { cursor }) } };
      return read(api.GET("/api/v1/organization/audit-log", { params, signal }));
    },
    [JSON.stringify(query)],
  );
  return (
    <section class="card" aria-labelledby="audit-title">
      <h2 id="audit-title">Audit log</h2>
      <AuditFilters filter={filter} onChange={setFilter} people={people} />
      <AuditTable pages={pages} />
    </section>
  );
}
