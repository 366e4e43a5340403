/** Where a question is typed, new or changed, and how long it may be. */
import type { RefObject } from "preact";
import { useLayoutEffect } from "preact/hooks";
import { formatNumber } from "../text/format";

interface QuestionAreaProps {
  area: RefObject<HTMLTextAreaElement | null>;
  text: string;
  placeholder?: string;
  onText: (text: string) => void;
  onSubmit: () => void;
  onEscape?: () => void;
}

const MAX_LENGTH = 10_000;
const NEAR = 9000;

/** Grows with its text; the style sheet says how far. Enter submits, with Shift it makes a new line. */
export function QuestionArea({ area, text, placeholder, onText, onSubmit, onEscape }: QuestionAreaProps) {
  useLayoutEffect(() => {
    const { current } = area;
    if (!current) return;
    current.style.height = "auto";
    current.style.height = `${current.scrollHeight + current.offsetHeight - current.clientHeight}px`;
  }, [text]);
  function onKeyDown(event: KeyboardEvent) {
    if (event.key === "Escape") return onEscape?.();
    if (!isSubmit(event)) return;
    event.preventDefault();
    onSubmit();
  }
  return (
    <textarea
      ref={area}
      dir="auto"
      rows={1}
      aria-label="Your question"
      placeholder={placeholder}
      value={text}
      onInput={(event) => onText(event.currentTarget.value)}
      onKeyDown={onKeyDown}
    />
  );
}

/** Enter, unless it makes a new line or ends a word of an input method. */
function isSubmit(event: KeyboardEvent): boolean {
  // Safari ends a composition before it tells of the key: then only the old code shows it.
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

/** Whether a question, without the space around it, is one. */
export const isAskable = (content: string): boolean => content !== "" && lengthOf(content) <= MAX_LENGTH;

/** In code points, as the server counts. */
function lengthOf(text: string): number {
  return text.length < NEAR ? text.length : [...text].length;
}

/** How long a text is, once it comes near the limit. */
export function LengthNote({ text }: { text: string }) {
  const length = lengthOf(text);
  if (length < NEAR) return null;
  return (
    <span class={length > MAX_LENGTH ? "length-note over" : "length-note"} role="status">
      {formatNumber(length)} / {formatNumber(MAX_LENGTH)}
      {length > MAX_LENGTH && ": shorten it to ask"}
    </span>
  );
}
