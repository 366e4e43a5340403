/**
 * Where citations and unsupported sentences stand in a Markdown text. Their places are code points of
 * the text, so they are put in before it is parsed: as private-use characters, which Markdown leaves
 * alone, between quotation marks, which count as punctuation as the brackets of `[1]` do.
 */
interface Marker {
  n: number;
  /** Where `[n]` begins, in code points. */
  answer_start: number;
}

/** Code points; the end is exclusive. */
export interface Span {
  start: number;
  end: number;
}

interface Edit {
  from: number;
  to: number;
  insert: string;
}

const PRIVATE_USE = /[\uE000-\uF8FF]/g;
const SURROGATE = /[\uD800-\uDBFF]/;
const FIRST_MARK = 0xe100;
const LAST_MARK = 0xf8ff;
const SPAN_START = "\u2039\uE000\u203A";
const SPAN_END = "\u2039\uE001\u203A";
const SENTINEL = /\u2039([\uE000-\uF8FF])\u203A/;
// What makes a line a list item, a heading, a quotation or a row of a table stays at its beginning.
const BLOCK_PREFIX = /[ \t]*(?:(?:[-*+]|\d{1,9}[.)]|#{1,6}|>|\[[ xX]\])[ \t]+|\|[ \t]*)*/y;
const NO_TEXT = /^[ \t]*(?:```|~~~)|^[\s|:=-]*$/;

export type Piece =
  | { kind: "text"; text: string }
  | { kind: "mark"; index: number }
  | { kind: "start" }
  | { kind: "end" };

/** The text with a sentinel for each marker (by its place in `markers`) and around each span. */
export function placeMarks(source: string, markers: readonly Marker[], spans: readonly Span[]): string {
  const text = source.replace(PRIVATE_USE, "\uFFFD");
  const toUnits = unitsOf(text);
  const edits = [
    ...markers.flatMap((marker, index) => markerEdit(text, toUnits(marker.answer_start), marker.n, index)),
    ...spans.flatMap(({ start, end }) => spanEdits(text, toUnits(start), toUnits(end))),
  ];
  return applyEdits(text, edits);
}

/** The text between sentinels, and what they stand for, in their order. */
export function splitMarks(text: string): Piece[] {
  return text.split(SENTINEL).flatMap((part, index): Piece[] => {
    if (index % 2 === 0) return part ? [{ kind: "text", text: part }] : [];
    const code = part.charCodeAt(0);
    if (code >= FIRST_MARK) return [{ kind: "mark", index: code - FIRST_MARK }];
    return [{ kind: part === SPAN_START[1] ? "start" : "end" }];
  });
}

/** The text as it was, with `[n]` for each mark. */
export function withoutMarks(text: string, toText: (index: number) => string): string {
  return splitMarks(text)
    .map((piece) => (piece.kind === "text" ? piece.text : piece.kind === "mark" ? toText(piece.index) : ""))
    .join("");
}

/** The text with neither markers nor the space before them. */
export function withoutMarkers(source: string, markers: readonly Marker[]): string {
  const toUnits = unitsOf(source);
  const edits = markers.flatMap(({ n, answer_start }) => markerEdit(source, toUnits(answer_start), n, 0));
  const cut = edits.map(({ from, to }) => ({ from: from - (source[from - 1] === " " ? 1 : 0), to, insert: "" }));
  return applyEdits(source, cut);
}

/** From code points to the UTF-16 units that JavaScript counts in. */
function unitsOf(text: string): (point: number) => number {
  if (!SURROGATE.test(text)) return (point) => Math.min(point, text.length);
  const offsets: number[] = [];
  let unit = 0;
  for (const character of text) {
    offsets.push(unit);
    unit += character.length;
  }
  return (point) => offsets[point] ?? text.length;
}

function markerEdit(text: string, at: number, n: number, index: number): Edit[] {
  const marker = `[${n}]`;
  const code = FIRST_MARK + index;
  if (code > LAST_MARK || !text.startsWith(marker, at)) return [];
  return [{ from: at, to: at + marker.length, insert: `\u2039${String.fromCharCode(code)}\u203A` }];
}

/** One pair for each line, so that no span reaches from one block into the next. */
function spanEdits(text: string, start: number, end: number): Edit[] {
  const edits: Edit[] = [];
  let lineStart = text.lastIndexOf("\n", start - 1) + 1;
  while (lineStart < end) {
    const newline = text.indexOf("\n", lineStart);
    const lineEnd = newline < 0 ? text.length : newline;
    if (!NO_TEXT.test(text.slice(lineStart, lineEnd)))
      edits.push(...lineEdits(text, lineStart, start, Math.min(end, lineEnd)));
    lineStart = lineEnd + 1;
  }
  return edits;
}

function lineEdits(text: string, lineStart: number, start: number, end: number): Edit[] {
  BLOCK_PREFIX.lastIndex = lineStart;
  const prefix = BLOCK_PREFIX.exec(text)?.[0].length ?? 0;
  const from = Math.max(start, lineStart + prefix);
  let to = end;
  while (to > from && /[\s|]/.test(text[to - 1] ?? "")) to -= 1;
  if (to <= from) return [];
  return [
    { from, to: from, insert: SPAN_START },
    { from: to, to, insert: SPAN_END },
  ];
}

function applyEdits(text: string, edits: Edit[]): string {
  const parts: string[] = [];
  let at = 0;
  for (const { from, to, insert } of edits.sort((one, other) => one.from - other.from)) {
    const begin = Math.max(from, at);
    parts.push(text.slice(at, begin), insert);
    at = Math.max(begin, to);
  }
  parts.push(text.slice(at));
  return parts.join("");
}
