/** Files on their way to the server: the buttons that begin it, and the list that shows how far they are. */
import { effect, useSignalEffect } from "@preact/signals";
import type { TargetedEvent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { may } from "../api/session";
import { count, formatNumber } from "../text/format";
import { Button } from "../ui/button";
import { Banner } from "../ui/states";
import { tell } from "../ui/toast";
import { ACCEPT, type Sorted, sortFiles } from "./files";
import { pause, uploadFiles, uploads } from "./upload_queue";
import { UploadRow } from "./upload_row";
import { isPrivateNext, PrivateChoice } from "./visibility";
import { dismiss, type Work, work, workInSight } from "./work";
import "./uploads.css";

export type { Upload } from "./upload_queue";
export { uploadFiles, uploads };

const MAX_ROWS = 40;

/** How many lists of uploads are on the page. Without any, short messages say what happens. */
let listsShown = 0;
const toldOf = new Set<number>();
// A view may show the list only once there is something on it.
const LIST_COMES_MS = 300;

effect(() => {
  for (const { id, phase, filename, error } of uploads.value) {
    if (phase !== "failed") toldOf.delete(id);
    else if (!toldOf.has(id)) {
      toldOf.add(id);
      if (listsShown === 0) tell(`${filename} was not uploaded. ${error ?? ""}`);
    }
  }
});

/** Uploads what the server can read of some files, and says how many it leaves out. */
export function uploadReadable(files: readonly File[]): void {
  if (!may("write")) {
    tell("As a viewer you can't add documents.");
    return;
  }
  const sorted = sortFiles(files);
  const number = sorted.accepted.length;
  uploadFiles(sorted.accepted, isPrivateNext.peek() ? "private" : "shared");
  const words = leftOut(sorted);
  if (words) tell(words);
  setTimeout(() => {
    if (listsShown === 0 && number > 0) tell(`${count(number, "file")} added. See how far under Documents.`);
  }, LIST_COMES_MS);
}

function leftOut({ accepted, unreadable, hidden }: Sorted): string | null {
  const parts = [];
  if (unreadable) parts.push(`${count(unreadable, "file")} of a type that can't be read`);
  if (hidden) parts.push(count(hidden, "hidden file"));
  if (parts.length > 0) return `Left out: ${parts.join(" and ")}.`;
  return accepted.length === 0 ? "There is no file in it." : null;
}

/** A button that lets people choose several files, and one for a whole folder. */
export function UploadButtons() {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement | null>(null);
  if (!may("write"))
    return <p class="status-note">As a viewer you read documents. Ask an administrator to add some.</p>;
  function asFolder(input: HTMLInputElement | null) {
    folder.current = input;
    if (input) input.webkitdirectory = true;
  }
  function take(event: TargetedEvent<HTMLInputElement>) {
    uploadReadable([...(event.currentTarget.files ?? [])]);
    // The same file may be chosen again.
    event.currentTarget.value = "";
  }
  return (
    <div class="upload-buttons">
      <input
        ref={files}
        type="file"
        multiple
        hidden
        accept={ACCEPT}
        aria-label="PDFs and other files"
        onChange={take}
      />
      <input ref={asFolder} type="file" multiple hidden aria-label="A folder of files" onChange={take} />
      <Button kind="primary" icon="upload" onClick={() => files.current?.click()}>
        Add PDFs
      </Button>
      <span class="upload-folder">
        <Button icon="folder" onClick={() => folder.current?.click()}>
          Add a folder
        </Button>
      </span>
      <PrivateChoice />
    </div>
  );
}

/**
 * The list of what is being uploaded and processed, for any view. `untilStored`: beside a list of
 * documents, which itself shows what becomes of them.
 */
export function UploadList({ untilStored = false }: { untilStored?: boolean }) {
  useEffect(countList, []);
  const all = work.value;
  if (all.length === 0) return null;
  const rows = untilStored ? workInSight.value.filter(isUpload) : workInSight.value;
  if (untilStored && rows.length === 0 && all.every(({ upload }) => !upload)) return null;
  return (
    <section class="upload-list" aria-label="Uploads">
      <header>
        <p>{summaryOf(all)}</p>
        <DismissFailed all={all} />
      </header>
      <Announcement />
      {pause.value && <Banner kind="warning">{PAUSES[pause.value]}</Banner>}
      {rows.length > 0 && (
        <ul class="upload-rows">
          {rows.slice(0, MAX_ROWS).map((each) => (
            <UploadRow key={each.key} work={each} />
          ))}
        </ul>
      )}
      {rows.length > MAX_ROWS && <p class="status-note">And {formatNumber(rows.length - MAX_ROWS)} more.</p>}
    </section>
  );
}

function DismissFailed({ all }: { all: readonly Work[] }) {
  const failed = all.filter(({ isFailed }) => isFailed);
  if (failed.length < 2) return null;
  return (
    <Button kind="quiet" onClick={() => failed.forEach(dismiss)}>
      Dismiss failed ones
    </Button>
  );
}

function countList(): () => void {
  listsShown += 1;
  return () => {
    listsShown -= 1;
  };
}

const PAUSES = {
  busy: "The server has enough to do for now. The upload goes on by itself in a moment.",
  unreachable: "The server can't be reached. The upload goes on by itself when it can.",
};

/** Read out a moment after the last change: not each of many that are done one after the other. */
function Announcement() {
  const [text, setText] = useState("");
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useSignalEffect(() => {
    const next = summaryOf(work.value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setText(next), 1500);
    return () => clearTimeout(timer.current);
  });
  return (
    <p class="visually-hidden" role="status">
      {text}
    </p>
  );
}

function isUpload({ upload, document, isDone }: Work): boolean {
  return upload !== null && (document === null || isDone || document.status === "failed");
}

function summaryOf(all: readonly Work[]): string {
  const ready = all.filter(({ isDone }) => isDone).length;
  const failed = all.filter(({ isFailed }) => isFailed).length;
  if (failed === all.length) return `${count(failed, "document")} failed`;
  if (all.length === 1) return ready ? "The document is ready" : "1 document is on its way";
  const words = `${formatNumber(ready)} of ${count(all.length, "document")} are ready`;
  if (failed === 0) return words;
  return `${words}, ${formatNumber(failed)} failed`;
}
