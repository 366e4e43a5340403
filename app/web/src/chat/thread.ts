/** An open conversation: its messages as a tree, which path is shown, and what is going on in it. */
import { computed, effect, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { api, read, type Schemas } from "../api/client";
import { type AnswerState, fromMessage, isEnded } from "./answer_state";
import { pathTo, type Step } from "./branches";
import { type Choice, choiceOf, keepChoice, keepText, keptText } from "./kept";

export interface QuestionNode {
  role: "user";
  id: string;
  parentId: string | null;
  content: string;
}

export interface AnswerNode {
  role: "assistant";
  id: string;
  parentId: string | null;
  answer: Signal<AnswerState>;
}

export type MessageNode = QuestionNode | AnswerNode;

export interface Asking {
  /** null: the question of the answer that is replaced. */
  content: string | null;
  parentId: string | null;
  replaces: string | null;
}

/** Why a question was not taken, and when it may be asked again. */
export interface Refusal {
  asking: Asking;
  message: string;
  canRetry: boolean;
  retryAt: number;
}

export interface Thread {
  /** null: it begins with its first question. */
  conversationId: Signal<string | null>;
  nodes: Signal<readonly MessageNode[]>;
  leaf: Signal<string | null>;
  path: ReadonlySignal<Step<MessageNode>[]>;
  /** "loading", "ready", or what was thrown. */
  loading: Signal<"loading" | "ready" | { error: unknown }>;
  draft: Signal<string>;
  choice: Signal<Choice>;
  /** What is on its way to the server. */
  asking: Signal<Asking | null>;
  refusal: Signal<Refusal | null>;
  /** The answer that is being written and read. */
  writing: Signal<AnswerNode | null>;
  /** One is on its way, or an answer is being written: none can be asked. */
  isBusy: ReadonlySignal<boolean>;
  isStopping: Signal<boolean>;
  isCut: Signal<boolean>;
  isClosed: boolean;
  stopReading: () => void;
  close: () => void;
}

const PAGE_SIZE = 200;

export function openThread(id: string | null): Thread {
  const conversationId = signal(id);
  const nodes = signal<readonly MessageNode[]>([]);
  const leaf = signal<string | null>(keptText("leaf", id) || null);
  const asking = signal<Asking | null>(null);
  const writing = signal<AnswerNode | null>(null);
  const thread: Thread = {
    ...{ conversationId, nodes, leaf, path: computed(() => pathTo(nodes.value, leaf.value)) },
    loading: signal<Thread["loading"]["value"]>(id === null ? "ready" : "loading"),
    ...{ draft: signal(keptText("draft", id)), choice: signal(choiceOf(id)) },
    ...{ asking, writing, isBusy: computed(() => asking.value !== null || writing.value !== null) },
    ...{ refusal: signal<Refusal | null>(null), isStopping: signal(false), isCut: signal(false) },
    ...{ isClosed: false, stopReading: () => undefined, close: () => undefined },
  };
  const stopKeeping = keep(thread);
  thread.close = () => {
    thread.isClosed = true;
    thread.stopReading();
    stopKeeping();
  };
  return thread;
}

function keep({ conversationId, draft, asking, leaf, choice }: Thread): () => void {
  const ends = [
    // Until the server has a question, the browser has it.
    effect(() =>
      keepText(
        "draft",
        conversationId.value,
        draft.value || (asking.value?.replaces === null ? (asking.value.content ?? "") : ""),
      ),
    ),
    effect(() => keepText("leaf", conversationId.value, leaf.value ?? "")),
    effect(() => keepChoice(conversationId.value, choice.value)),
  ];
  return () => {
    for (const end of ends) end();
  };
}

/** The first question was taken: what was kept of a new chat is this conversation's now. */
export function beginConversation(thread: Thread, id: string): void {
  for (const kind of ["draft", "leaf"] as const) keepText(kind, null, "");
  thread.conversationId.value = id;
  keepChoice(null, null);
}

/** Throws ApiError. */
export async function loadMessages(thread: Thread): Promise<void> {
  const id = thread.conversationId.peek();
  if (id === null) return;
  const items: Schemas["MessagePage"]["items"] = [];
  for (let cursor: string | null = null, isFirst = true; isFirst || cursor !== null; isFirst = false) {
    const params = { path: { conversation_id: id }, query: { limit: PAGE_SIZE, cursor } };
    const page: Schemas["MessagePage"] = await read(
      api.GET("/api/v1/conversations/{conversation_id}/messages", { params }),
    );
    items.push(...page.items);
    cursor = page.next_cursor;
  }
  if (!thread.isClosed) adopt(thread, items);
}

/** The newest answer that somebody is still waiting for. */
export function findUnended({ nodes }: Thread): AnswerNode | null {
  const found = nodes
    .peek()
    .findLast(
      (node) => node.role === "assistant" && !isEnded(node.answer.peek()) && node.answer.peek().run_id !== null,
    );
  return found?.role === "assistant" ? found : null;
}

function adopt(thread: Thread, items: Schemas["MessagePage"]["items"]): void {
  const before = new Map(thread.nodes.peek().map((node) => [node.id, node]));
  const writing = thread.writing.peek();
  const loaded = items.map((item): MessageNode => {
    if (item.role === "user") return { role: "user", id: item.id, parentId: item.parent_id, content: item.content };
    const known = before.get(item.id);
    if (known?.role !== "assistant")
      return { role: "assistant", id: item.id, parentId: item.parent_id, answer: signal(fromMessage(item)) };
    if (item.id !== writing?.id) known.answer.value = newerOf(known.answer.peek(), fromMessage(item));
    return { ...known, parentId: item.parent_id };
  });
  const ids = new Set(loaded.map((node) => node.id));
  // The list may have been made before the question was taken.
  const isMissing = writing !== null && !ids.has(writing.id);
  const ours = isMissing
    ? [...before.values()].filter(({ id }) => !ids.has(id) && (id === writing.id || id === writing.parentId))
    : [];
  thread.nodes.value = [...loaded, ...ours];
}

function newerOf(known: AnswerState, stored: AnswerState): AnswerState {
  return isEnded(known) && !isEnded(stored)
    ? known
    : { ...stored, sources: known.sources, passedOver: known.passedOver };
}
