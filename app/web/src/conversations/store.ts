/** The list of conversations, newest first, as the sidebar shows it. */
import { signal } from "@preact/signals";
import { api, read, readBlob, type Schemas } from "../api/client";
import { saveAs } from "../text/save";

export type Conversation = Schemas["ConversationOut"];
export type FoundMessage = Schemas["FoundMessageOut"];

const PAGE_SIZE = 40;

/** null: not loaded yet. */
export const conversations = signal<Conversation[] | null>(null);
export const loadError = signal<unknown>(null);
export const hasMore = signal(false);

let cursor: string | null = null;

/** Loads the newest ones again: after something was asked, renamed or deleted. */
export async function loadConversations(): Promise<void> {
  try {
    const page = await read(api.GET("/api/v1/conversations", { params: { query: { limit: PAGE_SIZE } } }));
    const older = (conversations.value ?? []).slice(PAGE_SIZE);
    // What was loaded of the older ones stays, unless it has moved to the top.
    const fresh = new Set(page.items.map((each) => each.id));
    const hasOlder = older.length > 0 && page.next_cursor !== null;
    conversations.value = hasOlder ? [...page.items, ...older.filter((each) => !fresh.has(each.id))] : page.items;
    if (!hasOlder) setCursor(page.next_cursor);
    loadError.value = null;
  } catch (error) {
    loadError.value = error;
  }
}

export async function loadMore(): Promise<void> {
  if (cursor === null) return;
  const page = await read(api.GET("/api/v1/conversations", { params: { query: { limit: PAGE_SIZE, cursor } } }));
  const known = new Set((conversations.value ?? []).map((each) => each.id));
  conversations.value = [...(conversations.value ?? []), ...page.items.filter((each) => !known.has(each.id))];
  setCursor(page.next_cursor);
}

/** Messages that hold the words, best first. */
export async function searchConversations(words: string): Promise<FoundMessage[]> {
  const found = await read(api.GET("/api/v1/conversations/search", { params: { query: { q: words, limit: 30 } } }));
  return found.items;
}

export async function renameConversation(id: string, title: string): Promise<void> {
  const path = { conversation_id: id };
  const renamed = await read(
    api.PATCH("/api/v1/conversations/{conversation_id}", { params: { path }, body: { title } }),
  );
  conversations.value = (conversations.value ?? []).map((each) => (each.id === id ? renamed : each));
}

export async function deleteConversation(id: string): Promise<void> {
  await read(api.DELETE("/api/v1/conversations/{conversation_id}", { params: { path: { conversation_id: id } } }));
  conversations.value = (conversations.value ?? []).filter((each) => each.id !== id);
}

export async function exportConversation({ id, title }: Conversation, format: "markdown" | "json"): Promise<void> {
  const blob = await readBlob(`/api/v1/conversations/${id}/export?format=${format}`);
  saveAs(blob, `${title || "conversation"}.${format === "json" ? "json" : "md"}`);
}

function setCursor(next: string | null): void {
  cursor = next;
  hasMore.value = next !== null;
}
