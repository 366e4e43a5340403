/** A page of a document that has no pictures: its text, with the quote marked in it. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { api, read } from "../api/client";
import { ApiError } from "../api/errors";
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
  const [text, error, retry] = useText(documentId, number, distance);
  const root = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const element = root.current;
    if (!element || text === null) return;
    const measure = () => onSize({ px: element.offsetHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [text]);
  useLayoutEffect(() => {
    if (!root.current || !quote || text === null) return;
    const mark = root.current.querySelector("mark");
    onSize({ px: root.current.offsetHeight });
    onMarked(mark && mark.offsetTop / root.current.offsetHeight);
  }, [text, quote?.serial]);
  return (
    <div class="text" ref={root} style={{ minHeight: text === null ? px(height) : undefined }}>
      {error !== null &&
        (isMissing(error) ? (
          <p class="no-text">This page could not be read.</p>
        ) : (
          <ErrorState error={error} onRetry={retry} />
        ))}
      {error === null && text === null && <Spinner />}
      {text === "" && <p class="no-text">There is no text on this page.</p>}
      {text !== null && <PageText text={text} quote={quote} />}
    </div>
  );
}

const isMissing = (error: unknown): boolean => error instanceof ApiError && error.status === 404;

function PageText({ text, quote }: { text: string; quote: Quote | null }) {
  if (!quote) return <p dir="auto">{text}</p>;
  // Offsets count code points, strings count UTF-16 units.
  const letters = Array.from(text);
  const [before, marked, after] = [
    letters.slice(0, quote.start),
    letters.slice(quote.start, quote.end),
    letters.slice(quote.end),
  ];
  return (
    <p dir="auto">
      {before.join("")}
      {marked.length > 0 && <mark key={quote.serial}>{marked.join("")}</mark>}
      {after.join("")}
    </p>
  );
}

function useText(documentId: string, number: number, distance: () => number): [string | null, unknown, () => void] {
  const [text, setText] = useState<string | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    const { signal, abort } = withAbort();
    const params = { path: { document_id: documentId, number } };
    const ask = () => read(api.GET("/api/v1/documents/{document_id}/pages/{number}", { params, signal }));
    takeTurn(() => whenFree(ask, signal), distance, signal).then(
      (page) => !signal.aborted && setText(page.text),
      (reason: unknown) => !signal.aborted && setError(reason),
    );
    return abort;
  }, [documentId, number, attempt]);
  const retry = () => {
    setError(null);
    setAttempt(attempt + 1);
  };
  return [text, error, retry];
}

function withAbort(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}
