/** Asks a question once, however often the line is cut on the way. */
import { signal } from "@preact/signals";
import { api, newIdempotencyKey, read, type Schemas } from "../api/client";
import { ApiError, messageOf } from "../api/errors";
import { models } from "../api/models";
import { loadConversations } from "../conversations/store";
import { navigate } from "../router";
import { newAnswer } from "./answer_state";
import { keepText, keptText, type Scope } from "./kept";
import { loadThread, readAnswer } from "./reading";
import { remedyFor } from "./remedies";
import {
  type AnswerNode,
  type Asking,
  beginConversation,
  loadMessages,
  type QuestionNode,
  type Thread,
} from "./thread";

const RETRY_WAITS_MS = [1000, 3000];

type Created = Schemas["RunCreated"];

let lastSent = { body: "", key: "" };

/** Asks at the end of the path that is shown. */
export function askNext(thread: Thread, content: string): Promise<boolean> {
  const last = thread.path.peek().at(-1)?.node;
  return ask(thread, { content, parentId: last?.role === "assistant" ? last.id : null, replaces: null });
}

/** False: it was not taken, and `thread.refusal` says why; a question is in the draft again. */
export async function ask(thread: Thread, asking: Asking): Promise<boolean> {
  if (thread.isBusy.peek()) return false;
  thread.refusal.value = null;
  thread.asking.value = asking;
  const isDraft = asking.replaces === null && asking.content !== null;
  if (isDraft && thread.draft.peek().trim() === asking.content) thread.draft.value = "";
  try {
    const created = await send(thread, asking);
    if (!thread.isClosed) begin(thread, asking, created);
    else if (isDraft) forgetDraft(thread, asking);
    return true;
  } catch (error) {
    if (isDraft && thread.draft.peek() === "") thread.draft.value = asking.content ?? "";
    refuse(thread, asking, error);
    return false;
  } finally {
    thread.asking.value = null;
    thread.isCut.value = false;
  }
}

/** It was taken after its view was left: what the browser has kept of it is no draft any more. */
function forgetDraft(thread: Thread, { content }: Asking): void {
  const id = thread.conversationId.peek();
  if (keptText("draft", id) === content) keepText("draft", id, "");
  void loadConversations();
}

async function send(thread: Thread, asking: Asking): Promise<Created> {
  const body = bodyOf(thread, asking);
  const header = { "Idempotency-Key": keyOf(JSON.stringify(body)) };
  for (const waitMs of RETRY_WAITS_MS) {
    try {
      return await read(api.POST("/api/v1/chat/runs", { params: { header }, body }));
    } catch (error) {
      if (!isLost(error) || thread.isClosed) throw error;
      thread.isCut.value = true;
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
  return read(api.POST("/api/v1/chat/runs", { params: { header }, body }));
}

/** The answer to the request was lost, also behind a proxy, or is still being made: the same key finds it. */
function isLost(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  return [0, 502, 504].includes(error.status) || error.code === "idempotency_in_flight";
}

function keyOf(body: string): string {
  if (body !== lastSent.body) lastSent = { body, key: newIdempotencyKey() };
  return lastSent.key;
}

function bodyOf(thread: Thread, { content, parentId, replaces }: Asking): Schemas["RunBody"] {
  const { scope, model } = thread.choice.peek();
  const conversationId = thread.conversationId.peek();
  const body: Partial<Schemas["RunBody"]> = {
    ...(content === null ? {} : { messages: [{ role: "user", content }] }),
    ...(conversationId === null ? {} : { conversation_id: conversationId }),
    ...(replaces === null ? {} : { replaces }),
    ...(replaces === null && parentId !== null ? { parent_id: parentId } : {}),
    ...(model !== null && isAtHand(model) ? { model } : {}),
    ...filterOf(scope),
    // It goes on while another view is open; it has a stop button.
    detached: true,
  };
  return body as Schemas["RunBody"];
}

/** What was chosen may have gone since; then the default answers, as the picker shows. */
function isAtHand(model: string): boolean {
  return models.peek()?.models.some(({ id }) => id === model) ?? false;
}

function filterOf(scope: Scope): Partial<Schemas["RunBody"]> {
  if (scope.kind === "documents") return { document_ids: scope.documents.map((each) => each.id) };
  if (scope.kind === "tags") return { tags: [...scope.tags] };
  return {};
}

function begin(thread: Thread, asking: Asking, created: Created): void {
  // The same question may be asked again.
  lastSent = { body: "", key: "" };
  const nodes = thread.nodes.peek();
  const replaced = nodes.find((node) => node.id === asking.replaces);
  const isNew = thread.conversationId.peek() === null;
  const question: QuestionNode | null =
    asking.content === null
      ? null
      : {
          role: "user",
          id: `local-${created.message_id}`,
          parentId: replaced ? replaced.parentId : asking.parentId,
          content: asking.content,
        };
  const answer: AnswerNode = {
    role: "assistant",
    id: created.message_id,
    parentId: question ? question.id : (replaced?.parentId ?? null),
    answer: signal(newAnswer(created.message_id, created.run_id)),
  };
  thread.nodes.value = [...nodes, ...(question ? [question] : []), answer];
  thread.leaf.value = answer.id;
  readAnswer(thread, answer, created.events_url);
  if (isNew) {
    beginConversation(thread, created.conversation_id);
    navigate(`/chat/${created.conversation_id}`, { replace: true });
  }
  void loadConversations();
  // For the question's own id. Without it only the buttons under the question are missing.
  void loadMessages(thread).catch(() => undefined);
}

function refuse(thread: Thread, asking: Asking, error: unknown): void {
  const waitS = error instanceof ApiError ? error.retryAfterS : null;
  const canRetry =
    !(error instanceof ApiError) || error.status === 0 || error.status === 429 || error.status >= 500 || waitS !== null;
  thread.refusal.value = { asking, message: explain(error), canRetry, retryAt: Date.now() + 1000 * (waitS ?? 0) };
  if (error instanceof ApiError && error.code === "run_active") void loadThread(thread);
}

function explain(error: unknown): string {
  if (!(error instanceof ApiError)) return messageOf(error);
  if (error.code === "run_active")
    return "Another answer is being written in this chat, perhaps from another tab. Ask when it is complete.";
  if (error.code === "documents_not_ready")
    return "Some of the chosen documents are still being processed. Ask again when they are ready, or choose others.";
  if (error.status === 404 && error.message.includes("document"))
    return "A chosen document is no longer there. Remove it from the documents to search, and ask again.";
  return `${error.message} ${remedyFor(error.code)}`.trim();
}
