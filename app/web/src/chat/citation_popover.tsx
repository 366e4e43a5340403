/** The quote behind the number that is pointed at; one for the whole chat. */
import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Icon } from "../ui/icon";
import type { Citation } from "./answer_state";
import { pagesOf } from "./citation_text";

export const POPOVER_ID = "citation-quote";
export const pointed = signal<{ citation: Citation; anchor: HTMLElement } | null>(null);

const SHOW_MS = 120;
// Long enough to get from the number into the quote, to select words of it.
const HIDE_MS = 180;
const GAP = 8;
let timer: ReturnType<typeof setTimeout> | undefined;

export function pointTo(citation: Citation, anchor: HTMLElement, waitMs = SHOW_MS): void {
  clearTimeout(timer);
  timer = setTimeout(() => (pointed.value = { citation, anchor }), pointed.peek() ? 0 : waitMs);
}

export function pointAway(): void {
  clearTimeout(timer);
  timer = setTimeout(hideQuote, HIDE_MS);
}

export function hideQuote(): void {
  clearTimeout(timer);
  pointed.value = null;
}

export function CitationPopover() {
  const at = pointed.value;
  useEffect(() => hideQuote, []);
  useEffect(() => {
    if (!at) return;
    const onKey = (event: KeyboardEvent) => event.key === "Escape" && hideQuote();
    document.addEventListener("keydown", onKey);
    document.addEventListener("scroll", onScroll, true);
    return () => {
      document.removeEventListener("keydown", onKey);
      document.removeEventListener("scroll", onScroll, true);
    };
  }, [at]);
  return at && <Quote key={at.citation.answer_start} citation={at.citation} anchor={at.anchor} />;
}

function onScroll(event: Event): void {
  const isWithin = event.target instanceof Element && event.target.closest(`#${POPOVER_ID}`) !== null;
  if (!isWithin) hideQuote();
}

function Quote({ citation, anchor }: { citation: Citation; anchor: HTMLElement }) {
  const element = useRef<HTMLDivElement>(null);
  const [place, setPlace] = useState({ left: "0px", top: "0px" });
  useLayoutEffect(() => {
    if (element.current) setPlace(placeBeside(anchor.getBoundingClientRect(), element.current.getBoundingClientRect()));
  }, [anchor, citation]);
  return (
    <div
      ref={element}
      id={POPOVER_ID}
      class="citation-popover"
      role="tooltip"
      style={place}
      onMouseEnter={() => clearTimeout(timer)}
      onMouseLeave={pointAway}
    >
      {citation.source_deleted ? (
        <p>This document was deleted. Its quote went with it.</p>
      ) : (
        <QuoteText citation={citation} />
      )}
    </div>
  );
}

function QuoteText({ citation }: { citation: Citation }) {
  const { verified, missing_numbers, quote, filename } = citation;
  return (
    <>
      {!verified && (
        <p class="not-verified">
          <Icon name="warning" size={14} />
          <span>
            {missing_numbers.length > 0
              ? `Not verified: the quote does not have ${missing_numbers.join(", ")}`
              : "Not verified: check it against the page"}
          </span>
        </p>
      )}
      <blockquote dir="auto">{quote}</blockquote>
      <p class="place">
        <Icon name="document" size={14} />
        <span class="clip" dir="auto">
          {filename}
        </span>
        <span class="pages">{pagesOf(citation)}</span>
      </p>
    </>
  );
}

/** Above the number where there is room, else below; always within the window. */
function placeBeside(anchor: DOMRect, box: DOMRect): { left: string; top: string } {
  const left = Math.max(
    GAP,
    Math.min(anchor.left + anchor.width / 2 - box.width / 2, window.innerWidth - box.width - GAP),
  );
  const above = anchor.top - box.height - GAP;
  const top = above >= GAP ? above : Math.min(anchor.bottom + GAP, window.innerHeight - box.height - GAP);
  return { left: `${left}px`, top: `${Math.max(GAP, top)}px` };
}
