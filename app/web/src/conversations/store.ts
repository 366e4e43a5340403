/** The list of conversations, newest first, as the sidebar shows it. */
import { computed } from "@preact/signals";
import { api, get, read, type Schemas } from "../api/client";
import { perUser } from "../api/session";
import { saveAs } from "../text/save";

export type Conversation = Schemas["ConversationOut"];
export type FoundMessage = Schemas["FoundMessageOut"];

const PAGE_SIZE = 40;

/** null: not loaded yet. */
export const conversations = perUser<Conversation[] | null>(null);
export const loadError = perUser<unknown>(null);
const cursor = perUser<string | null>(null);
export const hasMore = computed(() => cursor.value !== null);

/** Only the newest loading counts, and none from before a change. */
let generation = 0;

/** Loads the newest ones again: after something was asked, renamed or deleted. */
export async function loadConversations(): Promise<void> {
  const mine = ++generation;
  try {
    const page = await read(api.GET("/api/v1/conversations", { params: { query: { limit: PAGE_SIZE } } }));
    if (mine !== generation) return;
    const older = (conversations.value ?? []).slice(PAGE_SIZE);
    // What was loaded of the older ones stays, unless it has moved to the top.
    const fresh = new Set(page.items.map((each) => each.id));
    const hasOlder = older.length > 0 && page.next_cursor !== null;
    conversations.value = hasOlder ? [...page.items, ...older.filter((each) => !fresh.has(each.id))] : page.items;
    if (!hasOlder) cursor.value = page.next_cursor;
    loadError.value = null;
  } catch (error) {
    if (mine === generation) loadError.value = error;
  }
}

export async function loadMore(): Promise<void> {
  if (cursor.value === null) return;
  const page = await read(
    api.GET("/api/v1/conversations", { params: { query: { limit: PAGE_SIZE, cursor: cursor.value } } }),
  );
  const known = new Set((conversations.value ?? []).map((each) => each.id));
  conversations.value = [...(conversations.value ?? []), ...page.items.filter((each) => !known.has(each.id))];
  cursor.value = page.next_cursor;
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
  void loadConversations();
}

export async function deleteConversation(id: string): Promise<void> {
  await read(api.DELETE("/api/v1/conversations/{conversation_id}", { params: { path: { conversation_id: id } } }));
  conversations.value = (conversations.value ?? []).filter((each) => each.id !== id);
  void loadConversations();
}

export async function exportConversation({ id, title }: Conversation, format: "markdown" | "json"): Promise<void> {
  const response = await get(`/api/v1/conversations/${id}/export?format=${format}`);
  saveAs(await response.blob(), `${title || "chat"}.${format === "json" ? "json" : "md"}`);
}
