/**
 * A PDF as pdf.js has it. The library is loaded when the first PDF is opened, each file has a worker
 * of its own (what hangs there can be ended), and its bytes come in ranges, authorized one by one.
 */
import type { PDFDocumentLoadingTask, PDFDocumentProxy } from "pdfjs-dist";
import workerUrl from "pdfjs-dist/build/pdf.worker.min.mjs?url";
import { get } from "../api/client";
import { ownScript } from "../trusted_types";
import { whenFree, within } from "./turns";

type Library = typeof import("pdfjs-dist");

export interface PdfFile {
  document: PDFDocumentProxy;
  makeTextLayer: (options: ConstructorParameters<Library["TextLayer"]>[0]) => InstanceType<Library["TextLayer"]>;
  close: () => void;
}

interface Range {
  bytes: Uint8Array;
  totalBytes: number;
  etag: string | null;
}

const FIRST_BYTES = 1 << 20;
const CHUNK_BYTES = 1 << 18;
const LONGEST_OPENING_S = 20;
const LONGEST_CLOSING_S = 2;

let library: Promise<Library> | null = null;

/** Once; again after it failed. Worth calling as soon as it's likely that it will be needed. */
export function loadPdfjs(): Promise<Library> {
  library ??= import("pdfjs-dist").catch((error: unknown) => {
    library = null;
    throw error;
  });
  return library;
}

/**
 * Throws ApiError when the bytes can't be had, TookTooLong, and what pdf.js can't read. `onClosed` is
 * called when the file is closed, also by itself: because its bytes can't be had any more.
 */
export async function openPdf(documentId: string, onClosed: () => void): Promise<PdfFile> {
  const path = `/api/v1/documents/${documentId}/content`;
  const stop = new AbortController();
  const [pdfjs, first] = await Promise.all([loadPdfjs(), readRange(path, 0, FIRST_BYTES, null, stop.signal)]);
  const port = new Worker(ownScript(workerUrl), { type: "module" });
  let task: PDFDocumentLoadingTask | null = null;
  const close = () => {
    if (stop.signal.aborted) return;
    stop.abort();
    void end(task, port);
    onClosed();
  };
  // Taken over by the next getDocument.
  pdfjs.GlobalWorkerOptions.workerPort = port;
  try {
    task = pdfjs.getDocument({ ...sourceOf(pdfjs, path, first, close, stop.signal), ...optionsOf(pdfjs) });
    const document = await within(LONGEST_OPENING_S, task.promise);
    return { document, makeTextLayer: (options) => new pdfjs.TextLayer(options), close };
  } catch (error) {
    close();
    throw error;
  }
}

function optionsOf(pdfjs: Library) {
  return {
    cMapUrl: `${PDFJS_FILES}cmaps/`,
    standardFontDataUrl: `${PDFJS_FILES}standard_fonts/`,
    // The system may have none that is as wide as the PDF says: letters would be squeezed.
    useSystemFonts: false,
    wasmUrl: `${PDFJS_FILES}wasm/`,
    iccUrl: `${PDFJS_FILES}iccs/`,
    isEvalSupported: false,
    enableXfa: false,
    verbosity: pdfjs.VerbosityLevel.ERRORS,
  };
}

function sourceOf(pdfjs: Library, path: string, first: Range, close: () => void, signal: AbortSignal) {
  if (first.bytes.length >= first.totalBytes) return { data: first.bytes };
  const range = new pdfjs.PDFDataRangeTransport(first.totalBytes, first.bytes);
  // pdf.js has no word for "these bytes can't be had": its waiting ends when the file is closed.
  range.requestDataRange = (begin, end) =>
    void readRange(path, begin, end, first.etag, signal).then(
      ({ bytes }) => signal.aborted || range.onDataRange(begin, bytes),
      close,
    );
  // What is not looked at is not fetched.
  return { range, rangeChunkSize: CHUNK_BYTES, disableAutoFetch: true, disableStream: true };
}

async function readRange(
  path: string,
  begin: number,
  end: number,
  etag: string | null,
  signal: AbortSignal,
): Promise<Range> {
  const headers = { Range: `bytes=${begin}-${end - 1}` };
  const response = await whenFree(() => get(path, { headers, signal }), signal);
  const found = response.headers.get("ETag");
  if (etag !== null && (response.status !== 206 || found !== etag))
    throw new Error("The file was replaced while it was read.");
  const bytes = new Uint8Array(await response.arrayBuffer());
  const total = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "")?.[1];
  return { bytes, totalBytes: total === undefined ? bytes.length : Number(total), etag: found };
}

/** Lets pdf.js tidy up (its fonts are the page's), then ends the worker, also one that hangs. */
async function end(task: PDFDocumentLoadingTask | null, port: Worker): Promise<void> {
  await within(LONGEST_CLOSING_S, task?.destroy() ?? Promise.resolve()).catch(() => undefined);
  port.terminate();
}
