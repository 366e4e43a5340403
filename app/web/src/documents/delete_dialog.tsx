import { useEffect, useState } from "preact/hooks";
import { messageOf } from "../api/errors";
import { copy } from "../text/clipboard";
import { count, formatBytes, formatMoment, formatNumber } from "../text/format";
import { Button, Spinner } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Icon } from "../ui/icon";
import { Banner } from "../ui/states";
import { useAction } from "../ui/use_action";
import { type DocumentOut, deleteDocument, forEach, type Receipt, readReceipt } from "./actions";
import "./delete_dialog.css";

interface Props {
  documents: readonly Pick<DocumentOut, "id" | "filename">[];
  onClose: () => void;
  /** When the first of them is gone. */
  onDeleted?: () => void;
}

const MAX_NAMES = 5;
const FIRST_POLL_MS = 800;
const LONGEST_POLL_MS = 10_000;

/** Says what happens, then does it, then shows the receipt. */
export function DeleteDialog({ documents, onClose, onDeleted }: Props) {
  const [deletionIds, setDeletionIds] = useState<readonly string[] | null>(null);
  const [whyNotAll, setWhyNotAll] = useState<unknown>(null);
  const { isBusy, error, run } = useAction(async () => {
    const ids: string[] = [];
    const outcome = await forEach(documents, async ({ id }) => ids.push(await deleteDocument(id)));
    if (ids.length === 0) throw outcome.error;
    setWhyNotAll(outcome.error);
    onDeleted?.();
    setDeletionIds(ids);
  });

  if (deletionIds) return <ReceiptDialog ids={deletionIds} error={whyNotAll} onClose={onClose} />;
  const isOne = documents.length === 1;
  const what = isOne ? "this document" : count(documents.length, "document");
  const actions = (
    <>
      <Button onClick={onClose}>{isOne ? "Keep it" : "Keep them"}</Button>
      <Button kind="danger" icon="trash" isBusy={isBusy} onClick={run}>
        Delete
      </Button>
    </>
  );
  return (
    <Dialog title={`Delete ${what}?`} onClose={onClose} actions={actions} error={error}>
      <Names documents={documents} />
      <p>
        {isOne ? "No search finds it from now on. Its" : "No search finds them from now on. Their"} text, passages,
        vectors and files are removed for good, in all versions.
      </p>
      <p>Quotes in old answers are blacked out. A receipt says what was removed.</p>
    </Dialog>
  );
}

function Names({ documents }: Pick<Props, "documents">) {
  return (
    <ul class="names">
      {documents.slice(0, MAX_NAMES).map(({ id, filename }) => (
        <li key={id} class="long-name" dir="auto">
          {filename}
        </li>
      ))}
      {documents.length > MAX_NAMES && <li>and {count(documents.length - MAX_NAMES, "more", "more")}</li>}
    </ul>
  );
}

function ReceiptDialog({ ids, error, onClose }: { ids: readonly string[]; error: unknown; onClose: () => void }) {
  const receipts = useReceipts(ids);
  const isComplete = receipts.length === ids.length && receipts.every(({ verified_at }) => verified_at !== null);
  const actions = (
    <>
      <Button icon="copy" disabled={receipts.length === 0} onClick={() => void copy(toText(receipts))}>
        Copy receipt
      </Button>
      <Button kind="primary" onClick={onClose}>
        Done
      </Button>
    </>
  );
  const what = ids.length === 1 ? "The document is" : `${count(ids.length, "document")} are`;
  return (
    <Dialog title={`${what} deleted`} onClose={onClose} actions={actions}>
      {error !== null && <Banner kind="error">{`Some could not be deleted. ${messageOf(error)}`}</Banner>}
      <ReceiptView receipts={receipts} isComplete={isComplete} />
    </Dialog>
  );
}

/** The receipts, asked for again until all that they speak of is gone. */
function useReceipts(ids: readonly string[]): readonly Receipt[] {
  const [receipts, setReceipts] = useState<ReadonlyMap<string, Receipt>>(new Map());
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let waitMs = FIRST_POLL_MS;
    let known: ReadonlyMap<string, Receipt> = new Map();
    async function look() {
      const open = ids.filter((id) => !known.get(id)?.verified_at);
      const next = new Map(known);
      // What can't be read now is read the next time.
      await forEach(open, async (id) => next.set(id, await readReceipt(id)));
      if (isOver) return;
      known = next;
      setReceipts(known);
      if (ids.some((id) => !known.get(id)?.verified_at)) timer = setTimeout(look, waitMs);
      waitMs = Math.min(1.5 * waitMs, LONGEST_POLL_MS);
    }
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [ids]);
  return [...receipts.values()];
}

const toText = (receipts: readonly Receipt[]): string =>
  JSON.stringify(receipts.length === 1 ? receipts[0] : receipts, null, 2);

const COUNTS = ["pages", "chunks", "embeddings", "files", "file_bytes", "quotes"] as const;
const WORDS: Record<(typeof COUNTS)[number], string> = {
  pages: "Pages of text",
  chunks: "Passages",
  embeddings: "Vectors",
  files: "Files",
  file_bytes: "Size of the files",
  quotes: "Quotes in answers blacked out",
};

/** What was removed so far, all receipts together, and whether nothing is left. */
function ReceiptView({ receipts, isComplete }: { receipts: readonly Receipt[]; isComplete: boolean }) {
  const last = receipts
    .map(({ verified_at }) => verified_at ?? "")
    .sort()
    .at(-1);
  return (
    <div class="receipt">
      <p class={isComplete ? "receipt-state complete" : "receipt-state"} role="status">
        {isComplete ? <Icon name="check" /> : <Spinner />}
        {isComplete && last
          ? `Checked on ${formatMoment(last)}: nothing of it is left.`
          : "Being removed. You can close this: it goes on by itself."}
      </p>
      <dl>
        {COUNTS.map((key) => (
          <div key={key}>
            <dt>{WORDS[key]}</dt>
            <dd>{key === "file_bytes" ? formatBytes(sum(receipts, key)) : formatNumber(sum(receipts, key))}</dd>
          </div>
        ))}
        {receipts.length === 1 && (
          <div>
            <dt>Receipt</dt>
            <dd class="receipt-id">{receipts[0]?.id}</dd>
          </div>
        )}
      </dl>
    </div>
  );
}

const sum = (receipts: readonly Receipt[], key: (typeof COUNTS)[number]) =>
  receipts.reduce((total, each) => total + each[key], 0);
