import type { ReadonlySignal } from "@preact/signals";
import { useComputed } from "@preact/signals";
import { openViewer } from "../viewer/state";
import type { AnswerState, Citation } from "./answer_state";
import { hideQuote, POPOVER_ID, pointAway, pointed, pointTo } from "./citation_popover";
import { pagesOf } from "./citation_text";
import "./citation.css";

/** The number of a citation in the text; shows its quote, and opens the page that it is on. */
export function CitationChip({ answer, index }: { answer: ReadonlySignal<AnswerState>; index: number }) {
  const citation = useComputed(() => answer.value.citations[index]).value;
  const isPointed = useComputed(
    () => pointed.value !== null && pointed.value.citation === answer.value.citations[index],
  ).value;
  if (!citation) return null;
  return (
    <button
      type="button"
      class={citation.verified || citation.source_deleted ? "chip" : "chip unverified"}
      aria-label={nameOf(citation)}
      aria-disabled={citation.source_deleted ? true : undefined}
      aria-describedby={isPointed ? POPOVER_ID : undefined}
      onMouseEnter={(event) => pointTo(citation, event.currentTarget)}
      onMouseLeave={pointAway}
      onFocus={(event) => event.currentTarget.matches(":focus-visible") && pointTo(citation, event.currentTarget, 0)}
      onBlur={pointAway}
      onClick={() => show(citation)}
    >
      {citation.n}
    </button>
  );
}

function show(citation: Citation): void {
  if (citation.source_deleted) return;
  hideQuote();
  openCitation(citation);
}

export function openCitation({ document_id, filename, page_start, quote, quote_start, quote_end }: Citation): void {
  openViewer({
    documentId: document_id,
    filename,
    page: page_start,
    quote: { start: quote_start, end: quote_end, text: quote },
  });
}

function nameOf(citation: Citation): string {
  if (citation.source_deleted) return `Source ${citation.n}, a deleted document`;
  return `Source ${citation.n}: ${citation.filename}, ${pagesOf(citation)}${citation.verified ? "" : ", not verified"}`;
}
