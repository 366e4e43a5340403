import { useEffect, useState } from "preact/hooks";
import { api, read } from "../api/client";
import { usePages } from "../api/use_pages";
import { Badge } from "../documents/status";
import { formatAgo, formatDuration, formatMoment, formatNumber } from "../text/format";
import { Button, IconButton } from "../ui/button";
import { Paged } from "../ui/paged";
import { type Column, Table } from "../ui/table";
import { DeliveryDialog } from "./webhooks_delivery";
import { type Delivery, type DeliveryStatus, errorName, STATUS_NAMES } from "./webhooks_events";

const AGAIN_MS = 2000;
const KINDS = { pending: "queued", delivered: "ready", failed: "failed" } as const;
const STATUSES: readonly DeliveryStatus[] = ["pending", "delivered", "failed"];

/** What was sent to a webhook; asked for again while something is on its way. */
export function DeliveryLog({ webhookId, isActive }: { webhookId: string; isActive: boolean }) {
  const [status, setStatus] = useState<DeliveryStatus | null>(null);
  const [shown, setShown] = useState<string | null>(null);
  const pages = usePages((cursor, signal) => readPage(webhookId, status, cursor, signal), [webhookId, status]);
  const { items, reload } = pages;
  const isPending = isActive && (items ?? []).some((each) => each.status === "pending");
  useEffect(() => {
    if (!isPending) return;
    const timer = setTimeout(reload, AGAIN_MS);
    return () => clearTimeout(timer);
  }, [items, isPending]);
  return (
    <div class="delivery-log">
      <div class="delivery-filter">
        <select
          aria-label="Status"
          value={status ?? ""}
          onChange={({ currentTarget }) => setStatus(STATUSES.find((each) => each === currentTarget.value) ?? null)}
        >
          <option value="">All deliveries</option>
          {STATUSES.map((each) => (
            <option key={each} value={each}>
              {STATUS_NAMES[each]}
            </option>
          ))}
        </select>
        <IconButton icon="retry" label="Refresh" onClick={reload} />
      </div>
      <Paged pages={pages} empty={status ? "There are none of this status" : "Nothing was sent yet"}>
        {(deliveries) => (
          <Table label="Deliveries" columns={columns(setShown)} items={deliveries} keyOf={({ id }) => id} />
        )}
      </Paged>
      {shown && (
        <DeliveryDialog webhookId={webhookId} deliveryId={shown} onClose={() => setShown(null)} onReplayed={reload} />
      )}
    </div>
  );
}

export function DeliveryBadge({ status }: { status: DeliveryStatus }) {
  return <Badge kind={KINDS[status]}>{STATUS_NAMES[status]}</Badge>;
}

const columns = (show: (id: string) => void): Column<Delivery>[] => [
  {
    label: "Event",
    cell: ({ type, is_replay, created_at }) => (
      <>
        <code>{type}</code>
        <span class="note" title={formatMoment(created_at)}>
          {formatAgo(created_at)}
          {is_replay && ", sent again"}
        </span>
      </>
    ),
  },
  { label: "Status", cell: ({ status }) => <DeliveryBadge status={status} /> },
  { label: "Attempts", isNumber: true, cell: ({ attempts }) => formatNumber(attempts) },
  { label: "Last answer", cell: lastAnswerOf },
  {
    label: "Details",
    isActions: true,
    cell: ({ id, type }) => (
      <Button kind="quiet" aria-label={`Details: ${type}`} onClick={() => show(id)}>
        Details
      </Button>
    ),
  },
];

function lastAnswerOf({ last_attempt: last, next_attempt_at }: Delivery) {
  if (!last) return <span class="faint">None yet</span>;
  return (
    <span>
      {last.status_code ?? errorName(last.error ?? "")}
      <span class="note">
        {formatDuration(last.duration_ms)}
        {next_attempt_at && `, again at ${formatMoment(next_attempt_at)}`}
      </span>
    </span>
  );
}

function readPage(webhook_id: string, status: DeliveryStatus | null, cursor: string | undefined, signal: AbortSignal) {
  const query = { limit: 20, ...(status && { status }), ...(cursor && { cursor }) };
  const params = { path: { webhook_id }, query };
  return read(api.GET("/api/v1/webhooks/{webhook_id}/deliveries", { params, signal }));
}
