import { useEffect, useState } from "preact/hooks";
import { messageOf } from "../api/errors";
import { copyText } from "../text/clipboard";
import { count } from "../text/format";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Banner } from "../ui/states";
import { tell, tellError } from "../ui/toast";
import { type DocumentOut, deleteDocument, forEach, type Receipt, readReceipt } from "./actions";
import { ReceiptView } from "./receipt";

interface Props {
  documents: readonly Pick<DocumentOut, "id" | "filename">[];
  onClose: () => void;
  /** When the first of them is gone. */
  onDeleted?: () => void;
}

const MAX_NAMES = 5;
const POLL_MS = 800;

/** Says what happens, then does it, then shows the receipt. */
export function DeleteDialog({ documents, onClose, onDeleted }: Props) {
  const [deletionIds, setDeletionIds] = useState<readonly string[] | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);

  async function remove() {
    setBusy(true);
    setError(null);
    const ids: string[] = [];
    const outcome = await forEach(documents, async ({ id }) => ids.push(await deleteDocument(id)));
    setBusy(false);
    if (outcome.failed > 0) setError(outcome.error);
    if (ids.length === 0) return;
    onDeleted?.();
    setDeletionIds(ids);
  }

  if (deletionIds) return <ReceiptDialog ids={deletionIds} error={error} onClose={onClose} />;
  const isOne = documents.length === 1;
  const what = isOne ? "this document" : count(documents.length, "document");
  const actions = (
    <>
      <Button onClick={onClose}>Keep</Button>
      <Button kind="danger" icon="trash" isBusy={isBusy} onClick={remove}>
        Delete
      </Button>
    </>
  );
  return (
    <Dialog title={`Delete ${what}?`} onClose={onClose} actions={actions}>
      <Names documents={documents} />
      <p>
        {isOne ? "No search finds it from now on. Its" : "No search finds them from now on. Their"} text, passages,
        vectors and files are removed for good, in all versions.
      </p>
      <p>Quotes in old answers are blacked out. A receipt says what was removed.</p>
      {error !== null && <Banner kind="error">{messageOf(error)}</Banner>}
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
      <Button icon="copy" disabled={receipts.length === 0} onClick={() => copy(receipts)}>
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
    let known: ReadonlyMap<string, Receipt> = new Map();
    async function look() {
      const open = ids.filter((id) => !known.get(id)?.verified_at);
      const next = new Map(known);
      // What can't be read now is read the next time.
      await forEach(open, async (id) => next.set(id, await readReceipt(id)));
      if (isOver) return;
      known = next;
      setReceipts(known);
      if (ids.some((id) => !known.get(id)?.verified_at)) timer = setTimeout(look, POLL_MS);
    }
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [ids]);
  return [...receipts.values()];
}

function copy(receipts: readonly Receipt[]): void {
  const text = JSON.stringify(receipts.length === 1 ? receipts[0] : receipts, null, 2);
  copyText(text).then(() => tell("The receipt is copied."), tellError);
}
