/** What stands within a line of Markdown: emphasis, links, code, marks. */
import type { MarkedToken, Token, Tokens } from "marked";
import type { ComponentChildren } from "preact";
import { type Piece, splitMarks, withoutMarks } from "./marks";

export interface MarkRenderer {
  /** The mark in the text; must stay the same for the same index. */
  render: (index: number) => ComponentChildren;
  /** The mark where there is only text, as in code. */
  toText: (index: number) => string;
}

export interface Context extends MarkRenderer {
  isUnsupported: boolean;
  isInLink: boolean;
  depth: number;
}

export const MAX_DEPTH = 24;
const SAFE_LINK = /^(?:https?|mailto):/i;
export const UNSUPPORTED = "No source supports this sentence";

export function renderInline(tokens: readonly Token[], context: Context): ComponentChildren[] {
  return tokens.map((token) => renderSpan(token, context));
}

function renderSpan(generic: Token, context: Context): ComponentChildren {
  const token = generic as MarkedToken;
  context.depth += 1;
  try {
    if (context.depth > MAX_DEPTH * 2) return renderText(token.raw, context);
    return renderKnownSpan(token, context);
  } finally {
    context.depth -= 1;
  }
}

function renderKnownSpan(token: MarkedToken, context: Context): ComponentChildren {
  switch (token.type) {
    case "strong":
      return <strong>{renderInline(token.tokens, context)}</strong>;
    case "em":
      return <em>{renderInline(token.tokens, context)}</em>;
    case "del":
      return <del>{renderInline(token.tokens, context)}</del>;
    case "codespan":
      return renderCodeSpan(token.text, context);
    case "br":
      return <br />;
    case "link":
      return renderLink(token, context);
    case "image":
      return renderImage(token, context);
    case "checkbox":
      return (
        <input type="checkbox" checked={token.checked} disabled aria-label={token.checked ? "Done" : "Not done"} />
      );
    case "text":
      // Not its `text`, where references are characters already, also those that forge a mark.
      return "tokens" in token && token.tokens
        ? renderInline(token.tokens, context)
        : renderText(decodeEntities(token.raw), context);
    case "escape":
      return renderText(token.text, context);
    default:
      return renderText(token.raw, context);
  }
}

export function renderText(text: string, context: Context): ComponentChildren[] {
  return splitMarks(text).map((piece) => renderPiece(piece, context));
}

function renderPiece(piece: Piece, context: Context): ComponentChildren {
  switch (piece.kind) {
    case "start":
      context.isUnsupported = true;
      return null;
    case "end":
      context.isUnsupported = false;
      return null;
    case "mark":
      return context.isInLink ? null : context.render(piece.index);
    case "text":
      return context.isUnsupported && piece.text.trim() !== "" ? <Unsupported text={piece.text} /> : piece.text;
  }
}

function Unsupported({ text }: { text: string }) {
  const words = text.trimEnd();
  return (
    <>
      <span class="unsupported" title={UNSUPPORTED}>
        {words}
      </span>
      {text.slice(words.length)}
    </>
  );
}

function renderCodeSpan(text: string, context: Context) {
  for (const piece of splitMarks(text)) {
    if (piece.kind === "start" || piece.kind === "end") context.isUnsupported = piece.kind === "start";
  }
  return <code dir="ltr">{withoutMarks(text, context.toText)}</code>;
}

/** Marks within a link stand behind it: a button can't stand in a link. */
function renderLink(token: Tokens.Link, context: Context) {
  const wasInLink = context.isInLink;
  context.isInLink = true;
  const children = renderInline(token.tokens, context);
  context.isInLink = wasInLink;
  const href = withoutMarks(token.href, () => "");
  const marks = wasInLink
    ? []
    : splitMarks(token.raw).flatMap((piece) => (piece.kind === "mark" ? [context.render(piece.index)] : []));
  return [SafeLink({ href, children }), ...marks];
}

function renderImage(token: Tokens.Image, context: Context) {
  const href = withoutMarks(token.href, () => "");
  const text = withoutMarks(token.text, context.toText) || "Image";
  return context.isInLink ? text : SafeLink({ href, children: text });
}

function SafeLink({ href, children }: { href: string; children: ComponentChildren }) {
  const url = SAFE_LINK.test(href) && URL.canParse(href) ? new URL(href) : null;
  if (!url) return <span>{children}</span>;
  return (
    <a href={url.href} target="_blank" rel="noopener noreferrer nofollow" title={url.host || url.pathname}>
      {children}
    </a>
  );
}

const NAMED: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00A0",
  ndash: "\u2013",
  mdash: "\u2014",
  hellip: "\u2026",
  euro: "\u20AC",
  pound: "\u00A3",
  deg: "\u00B0",
  times: "\u00D7",
};
const ENTITY = /&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-z]{2,6}));/g;
const LAST_CODE_POINT = 0x10ffff;

/** Character references as they are common in Markdown; unknown ones stay as they are. */
function decodeEntities(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(ENTITY, (whole, decimal?: string, hexadecimal?: string, name?: string) => {
    if (name !== undefined) return NAMED[name] ?? whole;
    const code = decimal === undefined ? parseInt(hexadecimal ?? "0", 16) : Number(decimal);
    // A reference must not forge a mark, which is made of private-use characters.
    const isPlain =
      code > 0 && code <= LAST_CODE_POINT && !(code >= 0xe000 && code <= 0xf8ff) && !(code >= 0xd800 && code <= 0xdfff);
    return isPlain ? String.fromCodePoint(code) : "\uFFFD";
  });
}
