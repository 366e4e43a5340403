/** Files on their way to the server: three at a time, on through busy servers and lost networks. */
import { computed, effect, signal, untracked } from "@preact/signals";
import { newIdempotencyKey, type Schemas } from "../api/client";
import { ApiError, messageOf } from "../api/errors";
import { authorizedFetch, onOtherUser, user } from "../api/session";
import { formatBytes } from "../text/format";
import { announceChange, expectNews } from "./feed";
import { sendFile } from "./send_file";

export interface Upload {
  id: number;
  filename: string;
  sizeBytes: number;
  /** 0..1 of the bytes; 1 once the server has answered. */
  sent: number;
  documentId: string | null;
  error: string | null;
  phase: "waiting" | "sending" | "sent" | "failed";
  /** The server had the same bytes before. */
  isDuplicate: boolean;
  /** Whether to send the same file again makes sense. */
  canRetry: boolean;
}

interface Transfer {
  file: File;
  visibility: Visibility;
  idempotencyKey: string;
  controller: AbortController;
  /** How often the connection broke. */
  breaks: number;
}

type Visibility = Schemas["Visibility"];

const AT_ONCE = 3;
const MAX_BREAKS = 3;
const FIRST_WAIT_S = 2;
const LONGEST_WAIT_S = 30;
const BUSY_WAIT_S = 10;
// Without the limit the files are sent too: the server says which are too large.
const LIMIT_WAIT_MS = 1000;
// The server or what stands before it says: not now.
const LATER = new Set([429, 502, 503, 504]);

export const uploads = signal<readonly Upload[]>([]);
/** Why nothing is sent for now; it goes on by itself. */
export const pause = signal<"busy" | "unreachable" | null>(null);
const isUnderWay = computed(() => uploads.value.some(({ phase }) => phase === "waiting" || phase === "sending"));

const transfers = new Map<number, Transfer>();
let lastId = 0;
let pauseTimer: ReturnType<typeof setTimeout> | undefined;
let waitS = FIRST_WAIT_S;
let limitBytes: number | null = null;

onOtherUser(() => {
  for (const { id } of uploads.value) removeUpload(id);
});
effect(() => {
  if (user.value) untracked(pump);
});
window.addEventListener("online", goOn);
effect(() => {
  if (isUnderWay.value) window.addEventListener("beforeunload", askToStay);
  else window.removeEventListener("beforeunload", askToStay);
});

/** Queues files; three go at once. Never throws: what failed says so in `uploads`. */
export function uploadFiles(files: readonly File[], visibility: Visibility = "shared"): void {
  if (files.length === 0) return;
  const added = files.map((file): Upload => {
    const id = ++lastId;
    const controller = new AbortController();
    transfers.set(id, { file, visibility, idempotencyKey: newIdempotencyKey(), controller, breaks: 0 });
    const { name: filename, size: sizeBytes } = file;
    return {
      id,
      filename,
      sizeBytes,
      sent: 0,
      documentId: null,
      error: null,
      phase: "waiting",
      isDuplicate: false,
      canRetry: false,
    };
  });
  uploads.value = [...uploads.value, ...added];
  void Promise.race([findLimit(), new Promise((resolve) => setTimeout(resolve, LIMIT_WAIT_MS))]).then(pump);
}

/** Stops it, if it is still on its way, and takes it off the list. */
export function removeUpload(id: number): void {
  transfers.get(id)?.controller.abort();
  transfers.delete(id);
  uploads.value = uploads.value.filter((upload) => upload.id !== id);
  queueMicrotask(pump);
}

export function retryUpload(id: number): void {
  const transfer = transfers.get(id);
  if (transfer) transfer.breaks = 0;
  change(id, { phase: "waiting", error: null, sent: 0 });
  goOn();
}

function pump(): void {
  if (pause.value !== null || !user.value) return;
  let free = AT_ONCE - uploads.value.filter(({ phase }) => phase === "sending").length;
  for (const upload of uploads.value) {
    if (free <= 0) return;
    if (upload.phase !== "waiting") continue;
    if (limitBytes !== null && upload.sizeBytes > limitBytes) {
      fail(
        upload.id,
        `This file is too large: the server takes up to ${formatBytes(limitBytes)}. Split it into parts.`,
        false,
      );
      continue;
    }
    free -= 1;
    void send(upload.id);
  }
}

async function send(id: number): Promise<void> {
  const transfer = transfers.get(id);
  if (!transfer) return;
  change(id, { phase: "sending", sent: 0 });
  try {
    const { file, visibility, idempotencyKey, controller } = transfer;
    const onSent = (sent: number) => change(id, { sent });
    const answer = await sendFile({
      method: "POST",
      path: "/api/v1/documents/upload",
      file,
      visibility,
      idempotencyKey,
      onSent,
      signal: controller.signal,
    });
    succeed(id, answer as { document_id: string; deduplicated: boolean });
  } catch (error) {
    if (!transfer.controller.signal.aborted) await handle(id, transfer, error);
  }
  pump();
}

function succeed(id: number, answer: { document_id: string; deduplicated: boolean }): void {
  transfers.delete(id);
  waitS = FIRST_WAIT_S;
  expectNews();
  change(id, { phase: "sent", sent: 1, documentId: answer.document_id, isDuplicate: answer.deduplicated });
  announceChange();
}

async function handle(id: number, transfer: Transfer, error: unknown): Promise<void> {
  if (!(error instanceof ApiError)) return fail(id, messageOf(error), true);
  // Nobody is signed in any more: on it goes after that, or when the server takes the new token.
  if (error.status === 401 || LATER.has(error.status)) {
    change(id, { phase: "waiting", sent: 0 });
    if (user.peek()) hold("busy", error.retryAfterS ?? BUSY_WAIT_S);
    return;
  }
  if (error.status !== 0) return fail(id, error.message, error.status >= 500 || error.status === 408);
  transfer.breaks += 1;
  if (transfer.breaks >= MAX_BREAKS && (await isServerThere())) {
    return fail(
      id,
      "The connection broke again and again while this file was sent. If it has changed since, add it anew.",
      true,
    );
  }
  change(id, { phase: "waiting", sent: 0 });
  hold("unreachable", waitS);
  waitS = Math.min(waitS * 2, LONGEST_WAIT_S);
}

function hold(reason: "busy" | "unreachable", seconds: number): void {
  clearTimeout(pauseTimer);
  pause.value = reason;
  pauseTimer = setTimeout(goOn, seconds * 1000);
}

function goOn(): void {
  clearTimeout(pauseTimer);
  pause.value = null;
  pump();
}

function fail(id: number, error: string, canRetry: boolean): void {
  change(id, { phase: "failed", error, canRetry });
}

function change(id: number, changed: Partial<Upload>): void {
  uploads.value = uploads.value.map((upload) => (upload.id === id ? { ...upload, ...changed } : upload));
}

/** What is too large need not be sent first. Not known: the server will say. */
async function findLimit(): Promise<void> {
  if (limitBytes !== null) return;
  try {
    const answer = await authorizedFetch(new Request("/api/v1/uploads", { method: "OPTIONS" }));
    limitBytes = Number(answer.headers.get("Tus-Max-Size")) || null;
  } catch {
    limitBytes = null;
  }
}

async function isServerThere(): Promise<boolean> {
  return fetch("/health").then(
    ({ ok }) => ok,
    () => false,
  );
}

function askToStay(event: BeforeUnloadEvent): void {
  event.preventDefault();
}
