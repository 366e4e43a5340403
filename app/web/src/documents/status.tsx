/** One way to say how far a document is, for lists, pages and uploads. */
import type { ComponentChildren } from "preact";
import { count, formatNumber, formatPercent } from "../text/format";
import { ProgressBar } from "../ui/states";
import type { DocumentProgress } from "./feed";
import "./status.css";

type Kind = "ready" | "processing" | "failed" | "queued";

const STAGES: Record<string, string> = {
  parsing: "Reading",
  ocr: "Recognizing text",
  chunking: "Splitting into passages",
  embedding: "Embedding",
  indexing: "Indexing",
};

/** Whether it waits for a password, or for the right one. */
export const isLocked = ({ status, error_code }: DocumentProgress): boolean =>
  status === "failed" && (error_code === "encrypted" || error_code === "wrong_password");

export function Badge({ kind, children }: { kind: Kind; children: ComponentChildren }) {
  return <span class={`status ${kind}`}>{children}</span>;
}

/** The word with its color, and while it is in work how far it is. */
export function Status({ document }: { document: DocumentProgress }) {
  const isInWork = document.status === "processing";
  return (
    <div class="status-block">
      <Badge kind={kindOf(document)}>{wordOf(document)}</Badge>
      {isInWork && <ProgressBar value={document.percent / 100} label={`Progress of ${document.filename}`} />}
      {isInWork && <span class="status-note">{distanceOf(document)}</span>}
    </div>
  );
}

/** "12 of 160 pages, 34 %". */
function distanceOf({ pages_done, pages_total, percent }: DocumentProgress): string {
  const share = formatPercent(percent / 100);
  if (pages_total === null) return share;
  return `${formatNumber(Math.min(pages_done, pages_total))} of ${count(pages_total, "page")}, ${share}`;
}

function wordOf(document: DocumentProgress): string {
  const word = plainWordOf(document);
  // What is there already can still be asked about.
  return document.ready_version > 0 && document.status !== "ready" ? `New version: ${word.toLowerCase()}` : word;
}

function plainWordOf({ status, stage, queue_position, error_code }: DocumentProgress): string {
  if (status === "ready") return "Ready";
  if (status === "processing") return STAGES[stage ?? ""] ?? "Processing";
  if (status === "queued") return queue_position ? `Queued, number ${formatNumber(queue_position)}` : "Queued";
  if (status === "failed") return error_code === "cancelled" ? "Cancelled" : "Failed";
  return "Being deleted";
}

function kindOf({ status, error_code }: DocumentProgress): Kind {
  if (status === "ready" || status === "processing" || status === "queued") return status;
  return status === "failed" && error_code !== "cancelled" ? "failed" : "queued";
}
