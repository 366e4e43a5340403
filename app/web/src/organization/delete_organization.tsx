/** Deleting an organization ends the sign-in; its receipt is shown after the next one. */
import { useEffect, useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { signOut, user } from "../api/session";
import { count, formatBytes, formatMoment } from "../text/format";
import { Button, Spinner } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Field } from "../ui/field";
import { Icon } from "../ui/icon";
import { useAction } from "../ui/use_action";
import "../documents/delete_dialog.css";

type Receipt = Schemas["OrganizationDeletionOut"];

const POLL_MS = 3000;

export function DeleteOrganizationDialog({ name, onClose }: { name: string; onClose: () => void }) {
  const [typed, setTyped] = useState("");
  const { isBusy, error, run } = useAction(async () => {
    const receipt = await read(api.DELETE("/api/v1/organization", { body: { confirm: typed } }));
    keep(receipt.id);
    await signOut().catch(() => undefined);
  });
  const actions = (
    <>
      <Button onClick={onClose}>Keep it</Button>
      <Button kind="danger" icon="trash" isBusy={isBusy} disabled={typed.trim() !== name.trim()} onClick={run}>
        Delete for good
      </Button>
    </>
  );
  return (
    <Dialog title="Delete the organization?" onClose={onClose} actions={actions} error={error}>
      <p>
        Every member loses access within seconds, and all that is in it is removed. You are signed out; the receipt is
        shown when you sign in again.
      </p>
      <form onSubmit={(event) => event.preventDefault()}>
        <Field
          label="Type its name"
          autofocus
          hint={<span dir="auto">{name}</span>}
          dir="auto"
          autocomplete="off"
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      </form>
    </Dialog>
  );
}

const keyOf = (): string => `footnote-deleted-organization:${user.peek()?.id ?? ""}`;

function keep(receiptId: string | null): void {
  try {
    if (receiptId) localStorage.setItem(keyOf(), receiptId);
    else localStorage.removeItem(keyOf());
  } catch {
    // A browser that keeps nothing: the receipt stays with the server.
  }
}

function keptReceipt(): string | null {
  try {
    return localStorage.getItem(keyOf());
  } catch {
    return null;
  }
}

/** The receipt of the organization that was deleted before this sign-in, if one was. */
export function OrganizationReceipt() {
  const [id, setId] = useState(keptReceipt);
  const receipt = useReceipt(id);
  if (id === null || receipt === null) return null;
  function close() {
    keep(null);
    setId(null);
  }
  const actions = (
    <Button kind="primary" onClick={close}>
      Done
    </Button>
  );
  return (
    <Dialog title="The organization is deleted" onClose={close} actions={actions}>
      <ReceiptView receipt={receipt} />
    </Dialog>
  );
}

/** Null: there is none, or it is not here yet. Asked for again until all of it is gone. */
function useReceipt(id: string | null): Receipt | null {
  const [receipt, setReceipt] = useState<Receipt | null>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (id === null || receipt?.verified_at) return;
    let isOver = false;
    const params = { path: { organization_deletion_id: id } };
    const asked = read(api.GET("/api/v1/organization-deletions/{organization_deletion_id}", { params }));
    void asked.then((found) => isOver || setReceipt(found)).catch(() => undefined);
    const timer = setTimeout(() => setAttempt(attempt + 1), POLL_MS);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [id, attempt]);
  return id === null ? null : receipt;
}

function ReceiptView({ receipt }: { receipt: Receipt }) {
  const { verified_at, rows, files, file_bytes } = receipt;
  const figures: [string, string][] = [
    [
      "Rows",
      count(
        Object.values(rows).reduce((sum, each) => sum + each, 0),
        "row",
      ),
    ],
    ["Files", `${count(files, "file")}, ${formatBytes(file_bytes)}`],
  ];
  return (
    <div class="receipt">
      <p class={verified_at ? "receipt-state complete" : "receipt-state"} role="status">
        {verified_at ? <Icon name="check" /> : <Spinner />}
        {verified_at
          ? `Checked on ${formatMoment(verified_at)}: nothing of it is left.`
          : "Being removed. You can close this: it goes on by itself."}
      </p>
      <dl>
        {figures.map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{value}</dd>
          </div>
        ))}
        <div>
          <dt>Receipt</dt>
          <dd class="receipt-id">{receipt.id}</dd>
        </div>
      </dl>
    </div>
  );
}
