import type { Signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { messageOf } from "../api/errors";
import { formatPercent } from "../text/format";
import { Button, Spinner } from "../ui/button";
import { Icon } from "../ui/icon";
import { ProgressBar } from "../ui/states";
import { openViewer } from "../viewer/state";
import type { AnswerState, Citation, Source } from "./answer_state";
import { openCitation } from "./citation_chip";
import { pagesOf } from "./citation_text";
import "./sources.css";

/** What was found for the question, best first, and which of it the answer cites. */
export function Sources({ answer }: { answer: Signal<AnswerState> }) {
  const { sources, run_id, citations } = answer.value;
  const [isOpen, setOpen] = useState(false);
  const [error, setError] = useState<unknown>(null);
  if (run_id === null || sources?.length === 0) return null;

  async function load() {
    setError(null);
    try {
      const run = await read(api.GET("/api/v1/chat/runs/{run_id}", { params: { path: { run_id: run_id ?? "" } } }));
      answer.value = { ...answer.value, sources: run.sources as unknown as Source[] };
    } catch (caught) {
      setError(caught);
    }
  }
  function toggle(isNowOpen: boolean) {
    setOpen(isNowOpen);
    if (isNowOpen && sources === null) void load();
  }
  const cited = new Set(citations.map((each) => each.n));
  return (
    <details class="sources" onToggle={(event) => toggle(event.currentTarget.open)}>
      <summary>
        <Icon name="chevron-right" size={14} />
        Sources
        <span class="number">
          {sources ? `${cited.size} of ${sources.length} cited` : cited.size > 0 && `${cited.size} cited`}
        </span>
      </summary>
      {isOpen &&
        (error ? (
          <LoadError error={error} onRetry={() => void load()} />
        ) : (
          <SourceList sources={sources} citations={citations} />
        ))}
    </details>
  );
}

function LoadError({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  return (
    <p class="sources-error" role="alert">
      {messageOf(error)}{" "}
      <Button kind="quiet" icon="retry" onClick={onRetry}>
        Try again
      </Button>
    </p>
  );
}

function SourceList({ sources, citations }: { sources: readonly Source[] | null; citations: readonly Citation[] }) {
  if (sources === null) return <Spinner />;
  return (
    <ol class="source-list">
      {sources.map((source) => (
        <li key={source.n}>
          <SourceRow source={source} citation={citations.find((each) => each.n === source.n)} />
        </li>
      ))}
    </ol>
  );
}

function SourceRow({ source, citation }: { source: Source; citation: Citation | undefined }) {
  const isDeleted = source.filename === "" || citation?.source_deleted === true;
  function open() {
    if (citation) openCitation(citation);
    else
      openViewer({ documentId: source.document_id, filename: source.filename, page: source.page_start, quote: null });
  }
  return (
    <button type="button" class="source" data-cited={citation ? "yes" : undefined} disabled={isDeleted} onClick={open}>
      <span class="n">{source.n}</span>
      <span class="clip name" dir="auto" title={source.filename}>
        {isDeleted ? "Deleted document" : source.filename}
      </span>
      <span class="pages">{pagesOf(source)}</span>
      <span class="cited">{citation && "cited"}</span>
      <span class="score">
        <ProgressBar value={source.score} label={`Match of source ${source.n}`} />
        <span>{formatPercent(source.score)}</span>
      </span>
    </button>
  );
}
