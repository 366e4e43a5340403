/** What all documents are doing right now, from one event stream for the whole page. */
import { batch, signal } from "@preact/signals";
import { api, read, type Schemas } from "../api/client";
import { type Frame, readEvents } from "../api/events";
import { onOtherUser } from "./per_user";

export interface DocumentProgress {
  document_id: string;
  filename: string;
  /** As the API has it; `deleted` once it is gone. */
  status: string;
  stage: string | null;
  percent: number;
  pages_done: number;
  pages_total: number | null;
  queue_position: number | null;
  version: number;
  ready_version: number;
  chunk_count: number;
  warning_count: number;
  error_code: string | null;
  error_message: string | null;
  retryable: boolean | null;
}

type Document = Schemas["DocumentOut"];

/** The newest word on each document that was active since the page was opened, by id. */
export const progress = signal<ReadonlyMap<string, DocumentProgress>>(new Map());
export const active = signal<{ queued: number; processing: number }>({ queued: 0, processing: 0 });
/** Goes up whenever the list of documents has changed: one became ready, failed or was deleted. */
export const changes = signal(0);

// Many documents that change together are one change of the list.
const GATHERED_MS = 300;
const APART_MS = 1500;
let _gathering: ReturnType<typeof setTimeout> | undefined;
let announcedAt = -APART_MS;

onOtherUser(forget);

/** Begins to watch; the returned function ends it. */
export function watchDocuments(): () => void {
  return readEvents({
    open: async () => (await read(api.POST("/api/v1/documents/events", { body: {} }))).events_url,
    onFrame: take,
    // What happened meanwhile is told only for the last ten minutes.
    onCut: (isCut) => !isCut && announceChange(),
  });
}

/** Says that the list of documents has changed, a moment later. */
export function announceChange(): void {
  const waitMs = Math.max(GATHERED_MS, announcedAt + APART_MS - performance.now());
  _gathering ??= setTimeout(() => {
    _gathering = undefined;
    announcedAt = performance.now();
    changes.value += 1;
  }, waitMs);
}

/** Takes over what the API has just answered about a document: the stream tells it a moment later. */
export function learn(document: Document): void {
  put(toProgress(document));
}

export function learnDeleted(documentId: string): void {
  put({ ...blank(documentId), ...progress.value.get(documentId), status: "deleted", stage: null });
}

/** A document as it is now: the list's own word, overlaid by the newest of the stream. */
export function withProgress(document: Document): Document {
  const news = progress.value.get(document.id);
  if (!news || news.status === "deleted") return document;
  if (news.version < document.version) return document;
  const { document_id: _, ...state } = news;
  return { ...document, ...(state as Partial<Document>) };
}

function take(frame: Frame): void {
  if (frame.type === "document") put(frame as unknown as DocumentProgress);
  else if (frame.type === "deleted") learnDeleted(String(frame.document_id));
  else if (frame.type === "progress")
    active.value = { queued: Number(frame.queued), processing: Number(frame.processing) };
}

function put(next: DocumentProgress): void {
  const before = progress.value.get(next.document_id);
  batch(() => {
    progress.value = new Map(progress.value).set(next.document_id, next);
    if (before?.status !== next.status || before.version !== next.version) announceChange();
  });
}

function toProgress(document: Document): DocumentProgress {
  const { id, filename, status, stage, percent, pages_done, pages_total, version, ready_version, chunk_count } =
    document;
  const { warning_count, error_code, error_message, retryable } = document;
  return {
    ...{
      document_id: id,
      filename,
      status,
      stage,
      percent,
      pages_done,
      pages_total,
      version,
      ready_version,
      chunk_count,
    },
    ...{ warning_count, error_code, error_message, retryable, queue_position: document.queue_position ?? null },
  };
}

function blank(documentId: string): DocumentProgress {
  return {
    ...{
      document_id: documentId,
      filename: "",
      status: "deleted",
      stage: null,
      percent: 0,
      pages_done: 0,
      pages_total: null,
    },
    ...{ queue_position: null, version: 0, ready_version: 0, chunk_count: 0, warning_count: 0 },
    ...{ error_code: null, error_message: null, retryable: null },
  };
}

function forget(): void {
  batch(() => {
    progress.value = new Map();
    active.value = { queued: 0, processing: 0 };
  });
}
