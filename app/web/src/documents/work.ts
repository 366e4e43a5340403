/** What is being uploaded or processed, as one list: uploads of this page, and documents of others. */
import { computed, effect, untracked } from "@preact/signals";
import { perUser } from "../api/session";
import { type DocumentProgress, deleted, isActive, progress } from "./feed";
import { removeUpload, type Upload, uploads } from "./upload_queue";

export interface Work {
  key: string;
  filename: string;
  upload: Upload | null;
  document: DocumentProgress | null;
  /** What moves first, then what failed, then what waits. */
  rank: number;
  isDone: boolean;
  isFailed: boolean;
}

// How long what is done stays in sight.
const SHOWN_MS = 8000;

/** Documents that were in work since the page was opened, until they are dismissed. */
const followed = perUser<ReadonlySet<string>>(new Set());
const hidden = perUser<ReadonlySet<string>>(new Set());
const timers = new Map<string, ReturnType<typeof setTimeout>>();

export const work = computed<Work[]>(() => {
  const news = progress.value;
  const own = uploads.value.map((upload) => toWork(upload, news.get(upload.documentId ?? "") ?? null));
  const uploaded = new Set(uploads.value.map(({ documentId }) => documentId));
  const others = [...followed.value].flatMap((id) => {
    const document = news.get(id);
    return document && !uploaded.has(id) ? [toWork(null, document)] : [];
  });
  return [...own, ...others].filter(({ upload }) => !deleted.value.has(upload?.documentId ?? ""));
});

/** Without those that have been done for some seconds. */
export const workInSight = computed(() =>
  work.value.filter(({ key }) => !hidden.value.has(key)).sort((a, b) => a.rank - b.rank),
);

effect(() => {
  const news = [...progress.value.values()].filter(isActive).map(({ id }) => id);
  const known = followed.peek();
  if (news.some((id) => !known.has(id))) followed.value = new Set([...known, ...news]);
});

effect(() => {
  for (const { key, isDone } of work.value) {
    if (isDone && !timers.has(key))
      timers.set(
        key,
        setTimeout(() => hide(key), SHOWN_MS),
      );
    else if (!isDone) show(key);
  }
});

export function dismiss({ upload, document }: Work): void {
  if (upload) removeUpload(upload.id);
  if (document) followed.value = new Set([...followed.peek()].filter((id) => id !== document.id));
}

function hide(key: string): void {
  hidden.value = new Set([...hidden.peek(), key]);
  // Counted together until the last of them is done.
  if (work.peek().every((each) => hidden.peek().has(each.key) || each.isFailed))
    for (const each of work.peek()) if (each.isDone) forget(each);
}

function forget(each: Work): void {
  show(each.key);
  dismiss(each);
}

function show(key: string): void {
  clearTimeout(timers.get(key));
  timers.delete(key);
  const known = untracked(() => hidden.value);
  if (known.has(key)) hidden.value = new Set([...known].filter((other) => other !== key));
}

function toWork(upload: Upload | null, document: DocumentProgress | null): Work {
  const key = upload ? `upload-${upload.id}` : `document-${document?.id}`;
  const filename = upload?.filename ?? document?.filename ?? "";
  const isDone = document ? document.status === "ready" : upload?.phase === "sent" && upload.isDuplicate;
  const isFailed = upload?.phase === "failed" || document?.status === "failed";
  const isWaiting = upload?.phase === "waiting" || document?.status === "queued";
  const rank = isFailed ? 1 : isWaiting ? 2 : 0;
  return { key, filename, upload, document, rank, isDone: Boolean(isDone), isFailed };
}
