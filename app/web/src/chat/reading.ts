/** Reads an answer while it is written, however often the line is cut, and ends it on demand. */
import { api, read } from "../api/client";
import { isGone } from "../api/errors";
import { type Frame, readEvents } from "../api/events";
import { loadConversations } from "../conversations/store";
import { tellError } from "../ui/toast";
import { type AnswerState, applyFrame, isEnded, withRun } from "./answer_state";
import { type AnswerNode, findUnended, loadMessages, type Thread } from "./thread";

// A long answer is parsed anew for each change.
const LONG = 4000;
const LONG_MS = 100;
// A hidden page draws no frames.
const HIDDEN_MS = 250;

type RunPath = { run_id: string };

/** Reads until the answer has ended. `firstUrl`: where its events are, if that is known already. */
export function readAnswer(thread: Thread, node: AnswerNode, firstUrl: string | null): void {
  const { run_id } = node.answer.peek();
  if (run_id === null || thread.isClosed) return;
  const path = { run_id };
  thread.stopReading();
  const waiting = gather(
    (frames) => show(frames.reduce(applyFrame, node.answer.peek())),
    () => node.answer.peek().length,
  );
  let url = firstUrl;

  function show(state: AnswerState) {
    node.answer.value = state;
    if (isEnded(state)) end();
  }
  function end() {
    waiting.stop();
    close();
    thread.writing.value = null;
    thread.isCut.value = false;
    thread.isStopping.value = false;
    void loadConversations();
  }
  async function open(): Promise<string | null> {
    const known = url;
    url = null;
    if (known !== null) return known;
    const state = await askForRun(node.answer.peek(), path);
    if (state === null) return createEventsUrl(path);
    waiting.stop();
    show(state);
    return null;
  }

  thread.writing.value = node;
  const close = readEvents({ open, onFrame: waiting.add, onCut: (isCut) => (thread.isCut.value = isCut) });
  thread.stopReading = () => {
    waiting.stop();
    close();
  };
}

/** Its last state if it has ended, else null. */
async function askForRun(state: AnswerState, path: RunPath): Promise<AnswerState | null> {
  try {
    const run = await read(api.GET("/api/v1/chat/runs/{run_id}", { params: { path } }));
    return isEnded(run) ? withRun(state, run) : null;
  } catch (error) {
    if (!isGone(error)) throw error;
    const gone = { code: "not_found", message: "This answer was deleted.", retryable: false };
    return { ...state, status: "failed", error: gone };
  }
}

async function createEventsUrl(path: RunPath): Promise<string> {
  const created = await read(api.POST("/api/v1/chat/runs/{run_id}/events", { params: { path } }));
  return created.events_url;
}

/** Frames of one screen refresh together. */
function gather(take: (frames: Frame[]) => void, length: () => number) {
  let frames: Frame[] = [];
  let frame: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function stop() {
    if (frame !== undefined) cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = timer = undefined;
    frames = [];
  }
  function flush() {
    const taken = frames;
    stop();
    if (taken.length > 0) take(taken);
  }
  function add(next: Frame) {
    frames.push(next);
    if (timer !== undefined) return;
    const isLong = length() > LONG;
    timer = setTimeout(flush, isLong ? LONG_MS : HIDDEN_MS);
    if (!isLong) frame = requestAnimationFrame(flush);
  }
  return { add, stop };
}

/** Ends the answer where it is; what was written stays. */
export async function stopAnswer(thread: Thread): Promise<void> {
  const node = thread.writing.peek();
  const runId = node?.answer.peek().run_id;
  if (!node || !runId) return;
  thread.isStopping.value = true;
  try {
    await read(api.POST("/api/v1/chat/runs/{run_id}/cancel", { params: { path: { run_id: runId } } }));
  } catch (error) {
    thread.isStopping.value = false;
    tellError(error);
  }
}

/** Loads the conversation, and goes on reading what is being written in it. */
export async function loadThread(thread: Thread): Promise<void> {
  try {
    await loadMessages(thread);
    thread.loading.value = "ready";
    attach(thread);
  } catch (error) {
    if (thread.loading.peek() !== "ready") thread.loading.value = { error };
  }
}

/** Reads the answer that is being written, if another tab asked for one. */
function attach(thread: Thread): void {
  const node = findUnended(thread);
  if (node && thread.writing.peek() === null) readAnswer(thread, node, null);
}
