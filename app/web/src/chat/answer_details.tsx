import { useEffect, useState } from "preact/hooks";
import { api, read } from "../api/client";
import { formatDuration, formatMoment, formatNumber, formatUsd } from "../text/format";
import { Dialog } from "../ui/dialog";
import type { AnswerState } from "./answer_state";

/** What made the answer, and what it took. */
export function AnswerDetails({ state, onClose }: { state: AnswerState; onClose: () => void }) {
  const timings = useTimings(state);
  const { usage } = state;
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
    ["Asked", formatMoment(state.createdAt)],
  ];
  return (
    <Dialog title="About this answer" onClose={onClose}>
      <dl class="answer-details">
        {rows.map(
          ([term, value]) =>
            value && (
              <div key={term}>
                <dt>{term}</dt>
                <dd dir="auto">{value}</dd>
              </div>
            ),
        )}
      </dl>
    </Dialog>
  );
}

/** Milliseconds by name; empty until they are known, and where they are not. */
function useTimings({ id }: AnswerState): Readonly<Record<string, number>> {
  const [timings, setTimings] = useState<Readonly<Record<string, number>>>({});
  useEffect(() => {
    read(api.GET("/api/v1/messages/{message_id}/trace", { params: { path: { message_id: id } } }))
      .then(({ trace }) => setTimings((trace.timings_ms ?? {}) as Record<string, number>))
      .catch(() => undefined);
  }, [id]);
  return timings;
}
