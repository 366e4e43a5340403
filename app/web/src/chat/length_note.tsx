import { formatNumber } from "../text/format";
import { MAX_QUESTION } from "./asking";

const NEAR = 9000;

/** In code points, as the server counts. */
export function lengthOf(text: string): number {
  return text.length < NEAR ? text.length : [...text].length;
}

/** How long a text is, once it comes near the limit. */
export function LengthNote({ text }: { text: string }) {
  const length = lengthOf(text);
  if (length < NEAR) return null;
  return (
    <span class={length > MAX_QUESTION ? "length-note over" : "length-note"} role="status">
      {formatNumber(length)} / {formatNumber(MAX_QUESTION)}
      {length > MAX_QUESTION && ": shorten it to ask"}
    </span>
  );
}
