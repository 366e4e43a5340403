import type { Signal } from "@preact/signals";
import { Fragment } from "preact";
import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { copy } from "../text/clipboard";
import { formatDuration, formatMoment, formatNumber, formatUsd } from "../text/format";
import { IconButton } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Menu } from "../ui/menu";
import type { AnswerState } from "./answer_state";
import { ask } from "./asking";
import { withCitations, withoutCitations } from "./citation_text";
import { Comment, Thumbs } from "./feedback";
import type { Thread } from "./thread";

/** Under an answer that has ended: copy, ask again, say what one thinks of it, see what made it. */
export function AnswerActions({ thread, answer }: { thread: Thread; answer: Signal<AnswerState> }) {
  const [isCommenting, setCommenting] = useState(false);
  const [isDetailed, setDetailed] = useState(false);
  const hasText = answer.value.text !== "";
  return (
    <>
      <div class="actions">
        {hasText && <CopyMenu answer={answer} />}
        <IconButton
          icon="retry"
          label="Answer again"
          disabled={thread.isBusy.value}
          onClick={() => void regenerate(thread, answer.peek())}
        />
        {hasText && <Thumbs thread={thread} answer={answer} onDown={setCommenting} />}
        <IconButton icon="info" label="About this answer" onClick={() => setDetailed(true)} />
      </div>
      {isCommenting && <Comment thread={thread} answer={answer} onClose={() => setCommenting(false)} />}
      {isDetailed && <AnswerDetails state={answer.value} onClose={() => setDetailed(false)} />}
    </>
  );
}

export function regenerate(thread: Thread, { id }: AnswerState): Promise<boolean> {
  return ask(thread, { content: null, parentId: null, replaces: id });
}

function CopyMenu({ answer }: { answer: Signal<AnswerState> }) {
  const items = [
    { label: "Copy with citations", onSelect: () => void copy(withCitations(answer.peek())) },
    { label: "Copy as plain text", onSelect: () => void copy(withoutCitations(answer.peek())) },
  ];
  return <Menu label="Copy" items={items} icon="copy" />;
}

/** What made the answer, and what it took. */
function AnswerDetails({ state, onClose }: { state: AnswerState; onClose: () => void }) {
  const { id, usage } = state;
  const params = { path: { message_id: id } };
  const { data } = useLoaded(() => read(api.GET("/api/v1/messages/{message_id}/trace", { params })), [id]);
  const timings: Partial<Record<string, number>> = data?.trace.timings_ms ?? {};
  const tokens =
    usage &&
    `${formatNumber(usage.input_tokens)} read, ${formatNumber(usage.output_tokens)} written${usage.estimated ? " (estimated)" : ""}`;
  const rows: [string, string | null | undefined][] = [
    ["Model", state.model],
    ["Answered by", state.model_version === state.model ? null : state.model_version],
    ["Tokens", tokens],
    ["Cost", state.cost_usd === null ? null : formatUsd(state.cost_usd)],
    ["Search", timings.retrieval === undefined ? null : formatDuration(timings.retrieval)],
    ["First word after", timings.first_token === undefined ? null : formatDuration(timings.first_token)],
    ["Whole answer", timings.total === undefined ? null : formatDuration(timings.total)],
    ["Asked", formatMoment(state.created_at)],
  ];
  return (
    <Dialog title="About this answer" onClose={onClose}>
      <dl class="facts">
        {rows.map(
          ([term, value]) =>
            value && (
              <Fragment key={term}>
                <dt>{term}</dt>
                <dd dir="auto">{value}</dd>
              </Fragment>
            ),
        )}
      </dl>
    </Dialog>
  );
}
