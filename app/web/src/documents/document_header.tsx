import { Button } from "../ui/button";
import { Menu, type MenuItem } from "../ui/menu";
import { tellError } from "../ui/toast";
import { openViewer } from "../viewer/state";
import { cancelDocument, type DocumentOut, downloadDocument, retryDocument } from "./actions";
import { ask } from "./ask_about";
import { Badge, isActive, isLocked } from "./status";

interface Props {
  document: DocumentOut;
  onDelete: () => void;
  onNewVersion: () => void;
}

export function DocumentHeader({ document, onDelete, onNewVersion }: Props) {
  const { id, filename, title, status, ready_version } = document;
  const isReadable = ready_version > 0;
  return (
    <header class="page-header document-header">
      <div class="document-names">
        <h1 dir="auto">{title ?? filename}</h1>
        <p class="document-line">
          {title && title !== filename && <span dir="auto">{filename}</span>}
          {status === "ready" && <Badge kind="ready">Ready</Badge>}
        </p>
      </div>
      <div class="document-actions">
        <Button kind="primary" icon="chat" disabled={!isReadable} onClick={() => ask(document)}>
          Ask about it
        </Button>
        <Button
          icon="document"
          disabled={!isReadable}
          onClick={() => openViewer({ documentId: id, filename, page: 1, quote: null })}
        >
          View
        </Button>
        <Menu label="More actions" items={moreOf(document, onNewVersion, onDelete)} />
      </div>
    </header>
  );
}

function moreOf(document: DocumentOut, chooseVersion: () => void, onDelete: () => void): MenuItem[] {
  const { id, status } = document;
  const items: MenuItem[] = [
    {
      label: "Download the original",
      icon: "download",
      onSelect: () => void downloadDocument(document).catch(tellError),
    },
    { label: "Upload a new version", icon: "upload", onSelect: chooseVersion },
  ];
  if (status === "failed" && !isLocked(document)) {
    items.push({ label: "Try again", icon: "retry", onSelect: () => void retryDocument(id).catch(tellError) });
  }
  if (isActive(document))
    items.push({ label: "Cancel", icon: "stop", onSelect: () => void cancelDocument(id).catch(tellError) });
  items.push({ label: "Delete", icon: "trash", isDanger: true, onSelect: onDelete });
  return items;
}
