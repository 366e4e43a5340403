import { api, read } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { formatDuration, formatMoment, formatNumber } from "../text/format";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { ErrorState, Loading } from "../ui/states";
import { type Column, Table } from "../ui/table";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import { Copyable } from "./copyable";
import { type DeliveryDetails, errorName } from "./webhooks_events";
import { DeliveryBadge } from "./webhooks_log";

interface DialogProps {
  webhookId: string;
  deliveryId: string;
  onClose: () => void;
  onReplayed: () => void;
}

/** What was sent, and each attempt to. */
export function DeliveryDialog({ webhookId, deliveryId, onClose, onReplayed }: DialogProps) {
  const params = { path: { webhook_id: webhookId, delivery_id: deliveryId } };
  const path = "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}";
  const { data, error, reload } = useLoaded((signal) => read(api.GET(path, { params, signal })), [deliveryId]);
  const replay = useAction(async () => {
    await read(api.POST(`${path}/replay`, { params }));
    tell("It is sent again.");
    onClose();
    onReplayed();
  });
  const actions = (
    <>
      <Button icon="retry" isBusy={replay.isBusy} onClick={replay.run}>
        Send again
      </Button>
      <Button kind="primary" onClick={onClose}>
        Close
      </Button>
    </>
  );
  return (
    <Dialog title={data?.type ?? "Delivery"} onClose={onClose} actions={actions} error={replay.error}>
      {error ? <ErrorState error={error} onRetry={reload} /> : data ? <Details delivery={data} /> : <Loading />}
    </Dialog>
  );
}

function Details({ delivery: { status, created_at, message_id, data, log } }: { delivery: DeliveryDetails }) {
  const payload = JSON.stringify(data, null, 2);
  return (
    <>
      <dl class="facts">
        <dt>Status</dt>
        <dd>
          <DeliveryBadge status={status} />
        </dd>
        <dt>Happened</dt>
        <dd>{formatMoment(created_at)}</dd>
        <dt>Message</dt>
        <dd>
          <code>{message_id}</code>
        </dd>
      </dl>
      {log.length > 0 && <Table label="Attempts" columns={ATTEMPTS} items={log} keyOf={({ number }) => number} />}
      <Copyable label="Data" action="Copy" text={payload} />
    </>
  );
}

const ATTEMPTS: Column<DeliveryDetails["log"][number]>[] = [
  { label: "Attempt", cell: ({ number, attempted_at }) => `${formatNumber(number)}: ${formatMoment(attempted_at)}` },
  { label: "Answer", cell: ({ status_code, error }) => answerOf(status_code, error) },
  { label: "Took", isNumber: true, cell: ({ duration_ms }) => formatDuration(duration_ms) },
];

function answerOf(status: number | null, error: string | null): string {
  const words = [status === null ? null : String(status), error === null ? null : errorName(error)];
  return words.filter(Boolean).join(": ");
}
