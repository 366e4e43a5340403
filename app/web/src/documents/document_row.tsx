import { Link, navigate } from "../router";
import { formatAgo, formatBytes, formatMoment, formatNumber } from "../text/format";
import { Menu, type MenuItem } from "../ui/menu";
import { askAbout, type DocumentOut } from "./actions";
import { openDialog } from "./document_dialogs";
import { deleteItem, downloadItem, stateItems } from "./document_menu";
import { select } from "./list_state";
import { isLocked, Status } from "./status";
import { PrivateMark } from "./visibility";

const MAX_CHIPS = 3;

export function DocumentRow({ document, isSelected }: { document: DocumentOut; isSelected: boolean }) {
  const { id, filename, size_bytes, created_at } = document;
  return (
    <tr role="row" data-selected={isSelected ? "" : undefined}>
      <td role="cell" class="cell-check">
        <label class="check">
          <input
            type="checkbox"
            aria-label={`Select ${filename}`}
            checked={isSelected}
            onChange={() => select([id], !isSelected)}
          />
        </label>
      </td>
      <td role="cell" class="cell-name">
        <Link href={`/documents/${id}`} class="document-link clip" dir="auto" title={filename}>
          {filename}
        </Link>
        {document.visibility === "private" && <PrivateMark />}
        <Chips tags={document.tags} />
      </td>
      <td role="cell" class="cell-status">
        <Status document={document} />
        {document.error_message && (
          <p class="status-note row-error" title={document.error_message}>
            {document.error_message}
          </p>
        )}
      </td>
      <td role="cell" class="cell-pages">
        <PageCount document={document} />
      </td>
      <td role="cell" class="cell-size">
        {formatBytes(size_bytes)}
      </td>
      <td role="cell" class="cell-created">
        <time dateTime={created_at} title={formatMoment(created_at)}>
          {formatAgo(created_at)}
        </time>
      </td>
      <td role="cell" class="cell-menu">
        <Menu label={`Actions for ${filename}`} items={menuOf(document)} />
      </td>
    </tr>
  );
}

function PageCount({ document: { page_count, pages_total } }: { document: DocumentOut }) {
  const pages = page_count ?? pages_total;
  if (pages === null) return <span class="unknown">{"–"}</span>;
  return (
    <>
      {formatNumber(pages)}
      <span class="unit"> {pages === 1 ? "page" : "pages"}</span>
    </>
  );
}

function Chips({ tags }: { tags: readonly string[] }) {
  if (tags.length === 0) return null;
  return (
    <ul class="tag-chips" aria-label="Tags">
      {tags.slice(0, MAX_CHIPS).map((tag) => (
        <li key={tag} class="tag-chip clip" dir="auto" title={tag}>
          {tag}
        </li>
      ))}
      {tags.length > MAX_CHIPS && (
        <li class="tag-chip" title={tags.slice(MAX_CHIPS).join(", ")}>
          +{formatNumber(tags.length - MAX_CHIPS)}
        </li>
      )}
    </ul>
  );
}

function menuOf(document: DocumentOut): MenuItem[] {
  const { id, ready_version } = document;
  const items: MenuItem[] = [
    { label: "Open", icon: "document", onSelect: () => navigate(`/documents/${id}`) },
    { label: "Ask about it", icon: "chat", isDisabled: ready_version === 0, onSelect: () => askAbout(document) },
    { label: "Edit tags", icon: "tag", onSelect: () => openDialog({ kind: "tags", document }) },
    downloadItem(document, "Download"),
    ...stateItems(document),
    deleteItem(() => openDialog({ kind: "delete", documents: [document] })),
  ];
  const unlock = () => openDialog({ kind: "password", document });
  if (isLocked(document)) items.splice(-1, 0, { label: "Enter the password", icon: "edit", onSelect: unlock });
  return items;
}
