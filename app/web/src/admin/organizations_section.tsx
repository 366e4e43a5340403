import { useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { usePages } from "../api/use_pages";
import { planName } from "../organization/budget_limits";
import { formatBytes, formatDay, formatNumber } from "../text/format";
import { useDebounced } from "../text/use_debounced";
import { Button } from "../ui/button";
import { SearchField } from "../ui/field";
import { Paged } from "../ui/paged";
import { type Column, Table } from "../ui/table";
import { LimitsDialog } from "./limits_dialog";
import "./admin.css";

export type AdminOrganization = Schemas["AdminOrganizationOut"];

export function AdminOrganizationsSection() {
  const [words, setWords] = useState("");
  const [chosen, setChosen] = useState<AdminOrganization | null>(null);
  const query = useDebounced(words);
  const pages = usePages(
    (cursor, signal) => {
      const params = { query: { query, ...(cursor && { cursor }) } };
      return read(api.GET("/api/v1/admin/organizations", { params, signal }));
    },
    [query],
  );
  return (
    <section class="card admin" aria-labelledby="organizations-title">
      <h2 id="organizations-title">All organizations</h2>
      <SearchField
        label="Find by name"
        maxLength={255}
        value={words}
        onInput={(event) => setWords(event.currentTarget.value)}
      />
      <Paged pages={pages} empty="There is none like that">
        {(found) => <Table label="Organizations" columns={columns(setChosen)} items={found} keyOf={({ id }) => id} />}
      </Paged>
      {chosen && <LimitsDialog organization={chosen} onClose={() => setChosen(null)} onDone={pages.reload} />}
    </section>
  );
}

const columns = (choose: (organization: AdminOrganization) => void): Column<AdminOrganization>[] => [
  {
    label: "Organization",
    cell: ({ name, created_at, deleted_at }) => (
      <>
        <span dir="auto">{name}</span>
        <span class="note">{deleted_at ? "Being deleted" : `Since ${formatDay(created_at)}`}</span>
      </>
    ),
  },
  { label: "Members", isNumber: true, cell: ({ members }) => formatNumber(members) },
  { label: "Documents", isNumber: true, cell: ({ documents }) => formatNumber(documents) },
  { label: "Storage", isNumber: true, cell: ({ document_bytes }) => formatBytes(document_bytes) },
  { label: "Plan", cell: ({ plan }) => planName(plan) },
  {
    label: "Actions",
    isActions: true,
    cell: (organization) => (
      <Button kind="quiet" aria-label={`Plan and limits of ${organization.name}`} onClick={() => choose(organization)}>
        Limits
      </Button>
    ),
  },
];
