import { useState } from "preact/hooks";
import { count } from "../text/format";
import { Button } from "../ui/button";
import { tell, tellError } from "../ui/toast";
import { type DocumentOut, forEach, retryDocument } from "./actions";
import { openDialog } from "./document_dialogs";
import { chosen, select } from "./list_state";
import { isLocked } from "./status";

/** What can be done with the selected documents at once. */
export function BulkBar() {
  const [isBusy, setBusy] = useState(false);
  const documents = chosen.value;
  if (documents.length === 0) return null;
  const failed = documents.filter((each) => each.status === "failed" && !isLocked(each));

  async function retry() {
    setBusy(true);
    await retryAll(failed);
    setBusy(false);
  }

  return (
    <section class="bulk-bar" aria-label="Selected documents">
      <p role="status">{count(documents.length, "document")} selected</p>
      <Button icon="tag" onClick={() => openDialog({ kind: "add-tags", documents })}>
        Add tags
      </Button>
      {failed.length > 0 && (
        <Button icon="retry" isBusy={isBusy} onClick={retry}>
          Retry failed
        </Button>
      )}
      <Button kind="danger" icon="trash" onClick={() => openDialog({ kind: "delete", documents })}>
        Delete
      </Button>
      <Button
        kind="quiet"
        onClick={() =>
          select(
            documents.map(({ id }) => id),
            false,
          )
        }
      >
        Clear
      </Button>
    </section>
  );
}

async function retryAll(documents: readonly DocumentOut[]): Promise<void> {
  const { failed, error } = await forEach(documents, ({ id }) => retryDocument(id));
  if (failed < documents.length) tell(`${count(documents.length - failed, "document")} queued again.`);
  if (failed > 0) tellError(error);
}
