/** A page drawn by pdf.js, with its words over it so that they can be selected. */
import type { PDFPageProxy } from "pdfjs-dist";
import { useEffect, useRef, useState } from "preact/hooks";
import { useDebounced } from "../text/use_debounced";
import type { PageSize } from "./layout";
import type { PdfFile } from "./pdf_file";
import { makeTurns, within } from "./turns";
import "./text_layer.css";

interface PdfPageProps {
  pdf: PdfFile;
  number: number;
  /** In CSS pixels. */
  width: number;
  distance: () => number;
  onSize: (size: PageSize) => void;
  onFail: (error: unknown) => void;
}

type Host = { readonly current: HTMLDivElement | null };

const MOST_PIXELS = 1 << 24;
const MOST_PIXEL_RATIO = 2;
const LONGEST_DRAWING_S = 15;
const SETTLED_MS = 150;

// One after the other: the page that is looked at is there sooner.
const takeTurn = makeTurns(1);

export function PdfPage({ pdf, number, width, distance, onSize, onFail }: PdfPageProps) {
  const page = usePage(pdf, number, onSize, onFail);
  const picture = useRef<HTMLDivElement>(null);
  const words = useRef<HTMLDivElement>(null);
  const isDrawn = useDrawing(page, useDebounced(width, SETTLED_MS), picture, distance, onFail);
  useWords(pdf, isDrawn ? page : null, words);
  // Names that pdf.js gives to what its text layer is measured in.
  const scale = page ? (page.userUnit * width) / page.getViewport({ scale: 1 }).width : 1;
  return (
    <>
      <div class="drawing" ref={picture} aria-hidden="true" />
      <div class="words" style={{ "--total-scale-factor": scale, "--scale-round-x": "1px", "--scale-round-y": "1px" }}>
        <div class="textLayer" ref={words} />
      </div>
    </>
  );
}

function usePage(
  pdf: PdfFile,
  number: number,
  onSize: PdfPageProps["onSize"],
  onFail: PdfPageProps["onFail"],
): PDFPageProxy | null {
  const [page, setPage] = useState<PDFPageProxy | null>(null);
  useEffect(() => {
    let isGone = false;
    pdf.document.getPage(number).then(
      (found) => {
        if (isGone) return;
        const { width, height } = found.getViewport({ scale: 1 });
        onSize({ ratio: height / width });
        setPage(found);
      },
      (error: unknown) => !isGone && onFail(error),
    );
    return () => (isGone = true);
  }, [pdf, number]);
  return page;
}

/** Draws the page anew at each width; the old drawing stays, stretched, until the new one is there. */
function useDrawing(
  page: PDFPageProxy | null,
  width: number,
  host: Host,
  distance: () => number,
  onFail: (error: unknown) => void,
): boolean {
  const [isDrawn, setDrawn] = useState(false);
  useEffect(() => {
    if (!page) return;
    const stop = new AbortController();
    const { signal } = stop;
    takeTurn(() => within(LONGEST_DRAWING_S, draw(page, width, signal)), distance, signal).then(
      (canvas) => {
        if (signal.aborted) return release(canvas);
        show(host, canvas);
        setDrawn(true);
      },
      (error: unknown) => !signal.aborted && onFail(error),
    );
    return () => stop.abort();
  }, [page, width]);
  useEffect(() => {
    if (!page) return;
    return () => {
      show(host, null);
      page.cleanup();
    };
  }, [page]);
  return isDrawn;
}

async function draw(page: PDFPageProxy, width: number, signal: AbortSignal): Promise<HTMLCanvasElement> {
  const plain = page.getViewport({ scale: 1 });
  const height = (width * plain.height) / plain.width;
  const density = Math.min(window.devicePixelRatio, MOST_PIXEL_RATIO, Math.sqrt(MOST_PIXELS / (width * height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * density));
  canvas.height = Math.max(1, Math.round(height * density));
  const task = page.render({ canvas, viewport: page.getViewport({ scale: canvas.width / plain.width }) });
  const cancel = () => task.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    await task.promise;
    return canvas;
  } catch (error) {
    release(canvas);
    throw error;
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}

function show(host: Host, canvas: HTMLCanvasElement | null): void {
  host.current?.querySelectorAll("canvas").forEach(release);
  if (canvas) host.current?.replaceChildren(canvas);
  else host.current?.replaceChildren();
}

/** Its pixels go now, not when the memory is next tidied up. */
function release(canvas: HTMLCanvasElement): void {
  canvas.width = 0;
  canvas.height = 0;
}

function useWords(pdf: PdfFile, page: PDFPageProxy | null, host: Host): void {
  useEffect(() => {
    const container = host.current;
    if (!page || !container) return;
    const viewport = page.getViewport({ scale: 1 });
    const layer = pdf.makeTextLayer({ textContentSource: page.streamTextContent(), container, viewport });
    // Without the words the page can still be read.
    layer.render().then(
      () => container.append(endOfContent()),
      () => undefined,
    );
    return () => {
      layer.cancel();
      container.replaceChildren();
    };
  }, [page]);
}

/** Below the words: a selection that leaves them doesn't jump to the start of the page. */
function endOfContent(): HTMLElement {
  const end = document.createElement("div");
  end.className = "endOfContent";
  return end;
}
