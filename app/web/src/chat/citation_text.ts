/** Citations in words, and an answer with them as text for the clipboard. */
import { withoutMarkers } from "../text/marks";
import type { AnswerState, Citation } from "./answer_state";

/** "page 57", "pages 57–58"; the printed name of the page where it has one. */
export function pagesOf({
  page_start,
  page_end,
  page_label,
}: {
  page_start: number;
  page_end: number;
  page_label?: string | null;
}): string {
  if (page_end > page_start) return `pages ${page_start}–${page_end}`;
  if (page_label && page_label !== String(page_start)) return `page ${page_label} (${page_start} in the file)`;
  return `page ${page_start}`;
}

/** With its markers, and below it what each of them stands for. */
export function withCitations({ text, citations }: AnswerState): string {
  const byNumber = new Map<number, Citation[]>();
  for (const citation of citations) {
    const known = byNumber.get(citation.n) ?? [];
    if (!known.some((each) => each.quote === citation.quote)) byNumber.set(citation.n, [...known, citation]);
  }
  const lines = [...byNumber.entries()].sort(([one], [other]) => one - other).flatMap(([, all]) => all.map(lineOf));
  return lines.length === 0 ? text : `${text.trimEnd()}\n\n${lines.join("\n")}`;
}

export function withoutCitations({ text, citations }: AnswerState): string {
  return withoutMarkers(text, citations);
}

function lineOf(citation: Citation): string {
  if (citation.source_deleted) return `[${citation.n}] a deleted document`;
  const pages = pagesOf(citation).replace(/^pages? /, (word) => (word === "page " ? "p. " : "pp. "));
  const doubt = citation.verified ? "" : " (not verified)";
  return `[${citation.n}] ${citation.filename}, ${pages}: "${citation.quote.replace(/\s+/g, " ").trim()}"${doubt}`;
}
