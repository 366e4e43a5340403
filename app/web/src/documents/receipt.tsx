import { formatBytes, formatMoment, formatNumber } from "../text/format";
import { Spinner } from "../ui/button";
import { Icon } from "../ui/icon";
import type { Receipt } from "./actions";
import "./receipt.css";

const COUNTS = ["pages", "chunks", "embeddings", "files", "file_bytes", "quotes"] as const;
const WORDS: Record<(typeof COUNTS)[number], string> = {
  pages: "Pages of text",
  chunks: "Passages",
  embeddings: "Vectors",
  files: "Files",
  file_bytes: "Bytes of files",
  quotes: "Quotes in answers blacked out",
};

/** What was removed so far, all receipts together, and whether nothing is left. */
export function ReceiptView({ receipts, isComplete }: { receipts: readonly Receipt[]; isComplete: boolean }) {
  const last = receipts
    .map(({ verified_at }) => verified_at ?? "")
    .sort()
    .at(-1);
  return (
    <div class="receipt">
      <p class={isComplete ? "receipt-state complete" : "receipt-state"} role="status">
        {isComplete ? <Icon name="check" /> : <Spinner />}
        {isComplete && last
          ? `Checked on ${formatMoment(last)}: nothing of it is left.`
          : "Being removed. You can close this: it goes on by itself."}
      </p>
      <dl>
        {COUNTS.map((key) => (
          <div key={key}>
            <dt>{WORDS[key]}</dt>
            <dd>{key === "file_bytes" ? formatBytes(sum(receipts, key)) : formatNumber(sum(receipts, key))}</dd>
          </div>
        ))}
        {receipts.length === 1 && (
          <div>
            <dt>Receipt</dt>
            <dd class="receipt-id">{receipts[0]?.id}</dd>
          </div>
        )}
      </dl>
    </div>
  );
}

const sum = (receipts: readonly Receipt[], key: (typeof COUNTS)[number]) =>
  receipts.reduce((total, each) => total + each[key], 0);
