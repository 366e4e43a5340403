/** What the menus of a document have in common, in the list and on its own page. */
import type { MenuItem } from "../ui/menu";
import { tellError } from "../ui/toast";
import { cancelDocument, type DocumentOut, downloadDocument, retryDocument } from "./actions";
import { isActive } from "./feed";
import { isLocked } from "./status";

export function downloadItem(document: DocumentOut, label: string): MenuItem {
  return { label, icon: "download", onSelect: () => void downloadDocument(document).catch(tellError) };
}

export function deleteItem(onSelect: () => void): MenuItem {
  return { label: "Delete", icon: "trash", isDanger: true, onSelect };
}

/** For what has failed, and for what is in work. */
export function stateItems(document: DocumentOut): MenuItem[] {
  const { id, status } = document;
  if (status === "failed" && !isLocked(document))
    return [{ label: "Try again", icon: "retry", onSelect: () => void retryDocument(id).catch(tellError) }];
  if (!isActive(document)) return [];
  return [{ label: "Cancel", icon: "stop", onSelect: () => void cancelDocument(id).catch(tellError) }];
}
