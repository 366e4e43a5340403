/** A page of a document that has no pictures: its text, with the quote marked in it. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { api, read } from "../api/client";
import { isGone } from "../api/errors";
import { useLoaded } from "../api/use_loaded";
import { Spinner } from "../ui/button";
import { ErrorState } from "../ui/states";
import { type PageSize, px } from "./layout";
import type { Quote } from "./quote";
import { makeTurns, whenFree } from "./turns";

interface TextPageProps {
  documentId: string;
  number: number;
  /** In CSS pixels, as long as the text is not there. */
  height: number;
  /** Null when it is on another page. */
  quote: Quote | null;
  distance: () => number;
  onSize: (size: PageSize) => void;
  /** Where the quote begins, as a share of the page's height; null: not in this text. */
  onMarked: (fraction: number | null) => void;
}

const takeTurn = makeTurns(4);

export function TextPage({ documentId, number, height, quote, distance, onSize, onMarked }: TextPageProps) {
  const load = (signal: AbortSignal) => takeTurn(() => readText(documentId, number, signal), distance, signal);
  const { data: text, error, reload } = useLoaded(load, [documentId, number]);
  const root = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const element = root.current;
    if (!element || text === undefined) return;
    const measure = () => onSize({ px: element.offsetHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [text]);
  useLayoutEffect(() => {
    if (!root.current || !quote || text === undefined) return;
    const mark = root.current.querySelector("mark");
    onSize({ px: root.current.offsetHeight });
    onMarked(mark && mark.offsetTop / root.current.offsetHeight);
  }, [text, quote?.serial]);
  return (
    <div class="text" ref={root} style={{ minHeight: text === undefined ? px(height) : undefined }}>
      {error !== null &&
        (isGone(error) ? (
          <p class="no-text">This page could not be read.</p>
        ) : (
          <ErrorState error={error} onRetry={reload} />
        ))}
      {error === null && text === undefined && <Spinner />}
      {text === "" && <p class="no-text">There is no text on this page.</p>}
      {text !== undefined && <PageText text={text} quote={quote} />}
    </div>
  );
}

async function readText(documentId: string, number: number, signal: AbortSignal): Promise<string> {
  const params = { path: { document_id: documentId, number } };
  const ask = () => read(api.GET("/api/v1/documents/{document_id}/pages/{number}", { params, signal }));
  return (await whenFree(ask, signal)).text;
}

function PageText({ text, quote }: { text: string; quote: Quote | null }) {
  if (!quote) return <p dir="auto">{text}</p>;
  // Offsets count code points, strings count UTF-16 units.
  const letters = [...text];
  const marked = letters.slice(quote.start, quote.end).join("");
  return (
    <p dir="auto">
      {letters.slice(0, quote.start).join("")}
      {marked && <mark key={quote.serial}>{marked}</mark>}
      {letters.slice(quote.end).join("")}
    </p>
  );
}
