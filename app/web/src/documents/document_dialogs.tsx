/** The dialogs of the list. They outlive the row that asked for them. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Dialog } from "../ui/dialog";
import type { DocumentOut } from "./actions";
import { DeleteDialog } from "./delete_dialog";
import { progress } from "./feed";
import { PasswordForm } from "./password_form";
import { isLocked } from "./status";
import { AddTagsDialog, EditTagsDialog } from "./tags_dialogs";

type Asked =
  | { kind: "delete"; documents: readonly DocumentOut[] }
  | { kind: "add-tags"; documents: readonly DocumentOut[] }
  | { kind: "tags"; document: DocumentOut }
  | { kind: "password"; document: DocumentOut };

const asked = signal<Asked | null>(null);

export function openDialog(next: Asked): void {
  asked.value = next;
}

export function DocumentDialogs() {
  const present = asked.value;
  const close = () => (asked.value = null);
  useEffect(() => close, []);
  switch (present?.kind) {
    case "delete":
      return <DeleteDialog documents={present.documents} onClose={close} />;
    case "add-tags":
      return <AddTagsDialog documents={present.documents} onClose={close} />;
    case "tags":
      return <EditTagsDialog document={present.document} onClose={close} />;
    case "password":
      return <PasswordDialog document={present.document} onClose={close} />;
    default:
      return null;
  }
}

function PasswordDialog({ document, onClose }: { document: DocumentOut; onClose: () => void }) {
  const news = progress.value.get(document.id);
  const isDone = news !== undefined && !isLocked(news);
  useEffect(() => {
    if (isDone) onClose();
  }, [isDone]);
  return (
    <Dialog title="This document is protected" onClose={onClose}>
      <p class="long-name" dir="auto">
        {document.filename}
      </p>
      <PasswordForm documentId={document.id} isWrong={document.error_code === "wrong_password"} />
    </Dialog>
  );
}
