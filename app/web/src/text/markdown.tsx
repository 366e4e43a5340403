/**
 * Markdown of answers as nodes of an allow-list: what is not on it is shown as the text that it is.
 * Nothing is loaded, and nothing of it becomes HTML.
 */
import { Lexer, type MarkedToken, type Token, type Tokens } from "marked";
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { IconButton } from "../ui/button";
import { copy } from "./clipboard";
import { type Context, MAX_DEPTH, type MarkRenderer, renderInline, renderText } from "./markdown_inline";
import { withoutMarks } from "./marks";
import "./markdown.css";

/** `text` is what `placeMarks` made. Blocks that stay the same are rendered once. */
export function Markdown({ text, marks }: { text: string; marks: MarkRenderer }) {
  const known = useRef<{ marks: MarkRenderer; blocks: { raw: string; node: ComponentChildren }[] }>({
    marks,
    blocks: [],
  });
  if (known.current.marks !== marks) known.current = { marks, blocks: [] };
  const before = known.current.blocks;
  known.current.blocks = lex(text).map((token, index) => {
    const same = before[index];
    if (same?.raw === token.raw) return same;
    return { raw: token.raw, node: renderBlock(token, { ...marks, isUnsupported: false, isInLink: false, depth: 0 }) };
  });
  return <div class="markdown">{known.current.blocks.map(({ node }) => node)}</div>;
}

function lex(text: string): Token[] {
  try {
    return new Lexer({ gfm: true, breaks: true })
      .lex(text)
      .filter((token) => token.type !== "space" && token.type !== "def");
  } catch {
    // Nested deeper than the parser can go.
    return [{ type: "text", raw: text, text }];
  }
}

function renderBlock(generic: Token, context: Context): ComponentChildren {
  const token = generic as MarkedToken;
  if (context.depth > MAX_DEPTH) return <p>{renderText(token.raw, context)}</p>;
  const inner = { ...context, depth: context.depth + 1 };
  const dir = directionIn(context);
  switch (token.type) {
    case "paragraph":
      return <p dir={dir}>{renderInline(token.tokens, inner)}</p>;
    case "heading":
      return token.depth <= 2 ? (
        <h3 dir={dir}>{renderInline(token.tokens, inner)}</h3>
      ) : (
        <h4 dir={dir}>{renderInline(token.tokens, inner)}</h4>
      );
    case "list":
      return renderList(token, inner, dir);
    case "blockquote":
      return <blockquote dir={dir}>{token.tokens.map((each) => renderBlock(each, inner))}</blockquote>;
    case "code":
      return (
        <CodeBlock
          language={withoutMarks(token.lang ?? "", () => "")}
          code={withoutMarks(token.text, context.toText)}
        />
      );
    case "table":
      return renderTable(token as Tokens.Table, inner, dir);
    case "hr":
      return <hr />;
    case "text":
      return "tokens" in token && token.tokens ? renderInline(token.tokens, inner) : renderText(token.text, inner);
    case "space":
    case "def":
      return null;
    case "html":
      return <p dir={dir}>{renderText(token.text, context)}</p>;
    default:
      return renderInline([token], inner);
  }
}

/** A block has one direction, by its own first letter; what is in it goes along. */
function directionIn(context: Context): "auto" | undefined {
  return context.depth === 0 ? "auto" : undefined;
}

function CodeBlock({ language, code }: { language: string; code: string }) {
  return (
    <div class="code-block">
      <div class="code-head">
        <span class="clip">{language}</span>
        <IconButton icon="copy" label="Copy the code" onClick={() => void copy(code)} />
      </div>
      <pre tabIndex={0} dir="ltr">
        <code>{code}</code>
      </pre>
    </div>
  );
}

function renderList(list: Tokens.List, context: Context, dir: "auto" | undefined) {
  const items = list.items.map((item, index) => (
    <li key={index}>{item.tokens.map((each) => renderBlock(each, context))}</li>
  ));
  if (!list.ordered) return <ul dir={dir}>{items}</ul>;
  const start = list.start === "" ? 1 : list.start;
  return (
    <ol start={start} dir={dir}>
      {items}
    </ol>
  );
}

function renderTable({ header, rows }: Tokens.Table, context: Context, dir: "auto" | undefined) {
  const cell = (each: Tokens.TableCell, key: number) => {
    const align = each.align ? `align-${each.align}` : undefined;
    const content = renderInline(each.tokens, context);
    return each.header ? (
      <th key={key} scope="col" class={align}>
        {content}
      </th>
    ) : (
      <td key={key} class={align}>
        {content}
      </td>
    );
  };
  return (
    <div class="table-scroll" role="region" aria-label="Table" tabIndex={0}>
      <table dir={dir}>
        <thead>
          <tr>{header.map(cell)}</tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={index}>{row.map(cell)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
