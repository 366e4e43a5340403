import { Button } from "../ui/button";
import { Menu, type MenuItem } from "../ui/menu";
import { openViewer } from "../viewer/state";
import { askAbout, type DocumentOut } from "./actions";
import { deleteItem, downloadItem, stateItems } from "./document_menu";
import { Badge } from "./status";
import { PrivateMark } from "./visibility";

interface Props {
  document: DocumentOut;
  onDelete: () => void;
  onNewVersion: () => void;
}

export function DocumentHeader({ document, onDelete, onNewVersion }: Props) {
  const { id, filename, title, status, ready_version, visibility } = document;
  const isReadable = ready_version > 0;
  const items: MenuItem[] = [
    downloadItem(document, "Download the original"),
    { label: "Upload a new version", icon: "upload", onSelect: onNewVersion },
    ...stateItems(document),
    deleteItem(onDelete),
  ];
  return (
    <header class="page-header document-header">
      <div class="document-names">
        <h1 dir="auto">{title ?? filename}</h1>
        <p class="document-line">
          {title && title !== filename && <span dir="auto">{filename}</span>}
          {status === "ready" && <Badge kind="ready">Ready</Badge>}
          {visibility === "private" && <PrivateMark />}
        </p>
      </div>
      <div class="document-actions">
        <Button kind="primary" icon="chat" disabled={!isReadable} onClick={() => askAbout(document)}>
          Ask about it
        </Button>
        <Button
          icon="document"
          disabled={!isReadable}
          onClick={() => openViewer({ documentId: id, filename, page: 1, quote: null })}
        >
          View
        </Button>
        <Menu label="More actions" items={items} />
      </div>
    </header>
  );
}
