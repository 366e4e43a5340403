/** The quoted words of a page: where they stand, and the boxes over them. */
import { useEffect, useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import type { OpenDocument } from "./open_document";
import { clampPage, goTo, type Reading } from "./reading";
import { type Viewing, viewing } from "./state";
import { whenFree } from "./turns";
import "./quote.css";

type Rectangle = Schemas["RectangleOut"];

export interface Quote {
  page: number;
  /** Code points of the page's text; `end` is exclusive. */
  start: number;
  end: number;
  text: string;
  /** `marked`: in a page of text. `nowhere`: its words could not be found on the page. */
  place: "looked-for" | "boxed" | "marked" | "nowhere";
  rectangles: Rectangle[];
  /** Another one each time that it is asked for. */
  serial: number;
}

let lastSerial = 0;

/** The quote of `viewing`, found and scrolled to. Also returns what a page of text calls once it has marked it, or can't (null). */
export function useQuote(opened: OpenDocument, reading: Reading): [Quote | null, (fraction: number | null) => void] {
  const target = viewing.value;
  const [quote, setQuote] = useState<Quote | null>(null);

  useEffect(() => {
    if (target?.documentId !== opened.id) return;
    const next = toQuote(target, opened.pageCount);
    const page = clampPage(opened.pageCount, target.page);
    // A page that is there already stays until the place is known: one move, not two.
    if (!next || page !== reading.page.peek()) goTo(reading, { page, fraction: 0, at: "top" });
    reading.hasScrolled = false;
    setQuote(next);
    if (!next || opened.way === "text") return;
    let isGone = false;
    const settle = (rectangles: Rectangle[]) => {
      if (isGone) return;
      const [first] = rectangles;
      setQuote((now) => (now?.place === "marked" ? now : { ...next, place: first ? "boxed" : "nowhere", rectangles }));
      if (first && !reading.hasScrolled) goTo(reading, { page, fraction: first.y, at: "third" });
    };
    findRectangles(target).then(settle, () => settle([]));
    return () => (isGone = true);
  }, [target, opened.id]);

  function onMarked(fraction: number | null) {
    if (!quote) return;
    setQuote({ ...quote, place: fraction === null ? "nowhere" : "marked" });
    if (fraction !== null && !reading.hasScrolled) goTo(reading, { page: quote.page, fraction, at: "third" });
  }
  return [quote, onMarked];
}

function toQuote({ page, quote }: Viewing, pageCount: number): Quote | null {
  if (!quote || page > pageCount) return null;
  return { ...quote, page, place: "looked-for", rectangles: [], serial: ++lastSerial };
}

const asked = new WeakMap<Viewing, Promise<Rectangle[]>>();

/** Asked once for each `viewing`, so it can be begun while the document is still being opened. */
export function findRectangles(target: Viewing): Promise<Rectangle[]> {
  const answer = asked.get(target) ?? askRectangles(target);
  asked.set(target, answer);
  answer.catch(() => undefined);
  return answer;
}

async function askRectangles({ documentId, page, quote }: Viewing): Promise<Rectangle[]> {
  if (!quote) return [];
  const params = { path: { document_id: documentId, number: page }, query: { start: quote.start, end: quote.end } };
  const ask = () => read(api.GET("/api/v1/documents/{document_id}/pages/{number}/rectangles", { params }));
  const { exact, rectangles } = await whenFree(ask, new AbortController().signal);
  return exact ? rectangles : [];
}

const percent = (share: number): string => `${100 * share}%`;

export function QuoteBoxes({ rectangles }: { rectangles: Rectangle[] }) {
  return (
    <div class="quote-boxes" aria-hidden="true">
      {rectangles.map(({ x, y, width, height }, index) => (
        <div
          key={index}
          style={{ left: percent(x), top: percent(y), width: percent(width), height: percent(height) }}
        />
      ))}
    </div>
  );
}

/** For screen readers: what has become of the quote. */
export function announcement(quote: Quote | null): string {
  if (!quote || quote.place === "looked-for") return "";
  if (quote.place === "nowhere") return `Page ${quote.page} is shown. The quote could not be located exactly on it.`;
  return `Quote highlighted on page ${quote.page}`;
}
