/**
 * What all documents are doing right now, from one event stream for the whole page. It rests while
 * nothing is in work: a browser has six connections to a server for all windows that are looked at.
 */
import { batch } from "@preact/signals";
import { api, read, type Schemas } from "../api/client";
import { isGone } from "../api/errors";
import { type Frame, readEvents } from "../api/events";
import { perUser } from "../api/session";

type Document = Schemas["DocumentOut"];

/** What the stream tells of a document. */
const TOLD = [
  "id",
  "filename",
  "status",
  "stage",
  "percent",
  "pages_done",
  "pages_total",
  "queue_position",
  "version",
  "ready_version",
  "chunk_count",
  "warning_count",
  "error_code",
  "error_message",
  "retryable",
] as const;

export type DocumentProgress = Pick<Document, (typeof TOLD)[number]>;

/** The newest word on each document that was active since the page was opened, by id. */
export const progress = perUser<ReadonlyMap<string, DocumentProgress>>(new Map());
export const deleted = perUser<ReadonlySet<string>>(new Set());
export const active = perUser({ queued: 0, processing: 0 });
/** Goes up whenever the list of documents has changed: one became ready, failed or was deleted. */
export const changes = perUser(0);

// Many documents that change together are one change of the list.
const GATHERED_MS = 300;
const APART_MS = 1500;
let gathering: ReturnType<typeof setTimeout> | undefined;
let announcedAt = -APART_MS;
/** When the newest word on each document was heard, or asked for, in milliseconds of this page. */
const heardAt = new Map<string, number>();
/** What was told since the stream went on, until it has told all that it knows. */
let toldAgain: Set<string> | null = null;

export const isActive = ({ status }: { status: string }): boolean => status === "queued" || status === "processing";

// Longer than a worker takes to begin with what was uploaded.
const IDLE_MS = 10_000;
// What others upload is seen so much later, or when this window is looked at again.
const LOOK_AGAIN_MS = 30_000;
let isWatching = false;
let close: (() => void) | undefined;
let resting: ReturnType<typeof setTimeout> | undefined;

/** Begins to watch; the returned function ends it. */
export function watchDocuments(): () => void {
  isWatching = true;
  document.addEventListener("visibilitychange", expectNews);
  expectNews();
  return () => {
    isWatching = false;
    document.removeEventListener("visibilitychange", expectNews);
    rest();
    clearTimeout(resting);
  };
}

/** Reads the stream again, if it rests: something is about to happen to a document. */
export function expectNews(): void {
  if (!isWatching || document.visibilityState === "hidden") return;
  close ??= readEvents({
    open: async () => (await read(api.POST("/api/v1/documents/events", { body: {} }))).events_url,
    onFrame: take,
    // What changed before is in no frame: a list that was asked for earlier may not know it.
    onOpen: () => {
      toldAgain = new Set();
      announceChange();
    },
  });
  restLater();
}

function restLater(): void {
  clearTimeout(resting);
  resting = setTimeout(rest, IDLE_MS);
}

function rest(): void {
  close?.();
  close = undefined;
  resting = setTimeout(expectNews, LOOK_AGAIN_MS);
}

/** Says that the list of documents has changed, a moment later. */
export function announceChange(): void {
  if (gathering !== undefined) return;
  const waitMs = Math.max(GATHERED_MS, announcedAt + APART_MS - performance.now());
  gathering = setTimeout(() => {
    gathering = undefined;
    announcedAt = performance.now();
    changes.value += 1;
  }, waitMs);
}

/** Takes over what the API answers about a document: the stream tells it a moment later. */
export async function learn(answer: Promise<Document>): Promise<Document> {
  const askedAt = performance.now();
  const document = await answer;
  put(toldOf(document), askedAt);
  return document;
}

/** The same of what is only looked at: it corrects what was told before, and is no news by itself. */
export async function learnKnown<T>(answer: Promise<T>, documentsOf: (answered: T) => Document[]): Promise<T> {
  const askedAt = performance.now();
  const answered = await answer;
  batch(() => {
    for (const document of documentsOf(answered)) if (progress.peek().has(document.id)) put(toldOf(document), askedAt);
  });
  return answered;
}

function toldOf(document: Document): DocumentProgress {
  return Object.fromEntries(TOLD.map((field) => [field, document[field]])) as unknown as DocumentProgress;
}

export function learnDeleted(id: string): void {
  batch(() => {
    deleted.value = new Set(deleted.value).add(id);
    progress.value = new Map([...progress.value].filter(([known]) => known !== id));
    announceChange();
  });
}

/** A document as it is now: the list's own word, overlaid by the newest of the stream. */
export function withProgress(document: Document): Document {
  const news = progress.value.get(document.id);
  return news && news.version >= document.version ? { ...document, ...news } : document;
}

function take(frame: Frame): void {
  if (frame.type === "document") {
    const { type: _, document_id: id, ...news } = frame;
    toldAgain?.add(String(id));
    put({ ...news, id } as unknown as DocumentProgress);
  } else if (frame.type === "deleted") learnDeleted(String(frame.document_id));
  else if (frame.type === "progress") {
    active.value = { queued: Number(frame.queued), processing: Number(frame.processing) };
    if (frame.queued || frame.processing) clearTimeout(resting);
    else restLater();
    if (toldAgain) void catchUp(toldAgain);
    toldAgain = null;
  }
}

/** An answer is as old as its question: what was heard since is newer, and the stream goes on telling. */
function put(next: DocumentProgress, at = performance.now()): void {
  const before = progress.peek().get(next.id);
  if (before && (heardAt.get(next.id) ?? 0) > at) return;
  heardAt.set(next.id, at);
  if (isActive(next)) expectNews();
  batch(() => {
    progress.value = new Map(progress.value).set(next.id, next);
    if (before?.status !== next.status || before.version !== next.version) announceChange();
  });
}

/** Who comes back is told of the last ten minutes alone: what ended before is asked for. */
async function catchUp(told: ReadonlySet<string>): Promise<void> {
  for (const known of [...progress.peek().values()]) {
    if (told.has(known.id) || !isActive(known)) continue;
    const path = { document_id: known.id };
    await learn(read(api.GET("/api/v1/documents/{document_id}", { params: { path } }))).catch(
      (error: unknown) => isGone(error) && learnDeleted(known.id),
    );
  }
}
