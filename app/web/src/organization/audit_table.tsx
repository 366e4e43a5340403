import type { Schemas } from "../api/client";
import type { Pages } from "../api/use_pages";
import { Badge } from "../documents/status";
import { formatMoment } from "../text/format";
import { Paged } from "../ui/paged";
import { type Column, Table } from "../ui/table";
import { actionName } from "./audit_actions";
import "./audit.css";

type Line = Schemas["AuditLineOut"];

/** What the server names as the client of `python -m app admin`. */
const COMMAND_LINE = "Command line";
const ON_SERVER = "Somebody on the server itself";

const RESULTS = new Map<string, { kind: "ready" | "failed"; name: string }>([
  ["ok", { kind: "ready", name: "Done" }],
  ["denied", { kind: "failed", name: "Denied" }],
  ["failed", { kind: "failed", name: "Failed" }],
]);

/** Lines of an audit log, the newest first; more are loaded on demand. */
export function AuditTable({ pages }: { pages: Pages<Line> }) {
  return (
    <Paged pages={pages} empty="No such lines">
      {(lines) => <Table label="Audit log" columns={COLUMNS} items={lines} keyOf={({ id }) => id} />}
    </Paged>
  );
}

const COLUMNS: readonly Column<Line>[] = [
  { label: "Action", cell: ActionCell },
  { label: "Who", cell: WhoCell },
  { label: "When", cell: ({ at }) => formatMoment(at) },
  { label: "Result", cell: ResultCell },
];

function WhoCell({ email, user_id, key_id, client, address }: Line) {
  const nobody = client === COMMAND_LINE && !address ? ON_SERVER : "Nobody who is known";
  return (
    <>
      {email ?? (user_id ? "Somebody who left" : nobody)}
      <span class="note" dir="auto">
        {[client, address].filter(Boolean).join(", ")}
        {key_id && ", with an API key"}
      </span>
    </>
  );
}

function ActionCell({ action, object_id, details }: Line) {
  const facts = Object.entries(details).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  return (
    <>
      <span title={action}>{actionName(action)}</span>
      {object_id && (
        <code class="note" dir="auto">
          {object_id}
        </code>
      )}
      {facts.length > 0 && (
        <span class="note" dir="auto">
          {facts.join(", ")}
        </span>
      )}
    </>
  );
}

function ResultCell({ result, status, request_id }: Line) {
  const { kind, name } = RESULTS.get(result) ?? { kind: "failed", name: result };
  return (
    <span title={`Status ${status}, request ${request_id}`}>
      <Badge kind={kind}>{name}</Badge>
    </span>
  );
}
