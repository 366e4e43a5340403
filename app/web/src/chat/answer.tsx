import type { Signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { modelName } from "../api/models";
import { count } from "../text/format";
import { Markdown } from "../text/markdown";
import { UNSUPPORTED } from "../text/markdown_inline";
import { placeMarks } from "../text/marks";
import { Button } from "../ui/button";
import { Icon } from "../ui/icon";
import { Banner } from "../ui/states";
import { AnswerActions, regenerate } from "./answer_actions";
import { type AnswerState, isEnded } from "./answer_state";
import { BranchSwitch } from "./branch_switch";
import type { Step } from "./branches";
import { CitationChip } from "./citation_chip";
import { remedyFor } from "./remedies";
import { Sources } from "./sources";
import type { AnswerNode, MessageNode, Thread } from "./thread";
import "./answer.css";

export function Answer({ thread, node, step }: { thread: Thread; node: AnswerNode; step: Step<MessageNode> }) {
  const isWriting = thread.writing.value?.id === node.id;
  return (
    <article class="answer" data-writing={isWriting ? "yes" : undefined}>
      <h2 class="visually-hidden">Answer</h2>
      <AnswerText answer={node.answer} />
      <AnswerEnd thread={thread} node={node} step={step} />
    </article>
  );
}

/** The only part that changes with each frame. */
function AnswerText({ answer }: { answer: Signal<AnswerState> }) {
  const state = answer.value;
  const { text, citations, unsupported } = state;
  const placed = useMemo(() => placeMarks(text, citations, unsupported), [text, citations, unsupported]);
  const marks = useMemo(
    () => ({
      render: (index: number) => <CitationChip key={index} answer={answer} index={index} />,
      toText: (index: number) => `[${answer.peek().citations[index]?.n ?? ""}]`,
    }),
    [answer],
  );
  if (text === "" && !isEnded(state)) return <Waiting note={waitingNote(state)} />;
  return <Markdown text={placed} marks={marks} />;
}

function waitingNote({ sources }: AnswerState): string {
  if (sources === null) return "Searching your documents";
  if (sources.length === 0) return "Thinking";
  const documents = new Set(sources.map((each) => each.document_id)).size;
  return `Reading ${count(sources.length, "passage")} of ${count(documents, "document")}`;
}

export function Waiting({ note }: { note: string }) {
  return (
    <p class="waiting">
      <span class="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {note}
    </p>
  );
}

function AnswerEnd({ thread, node, step }: { thread: Thread; node: AnswerNode; step: Step<MessageNode> }) {
  const state = node.answer.value;
  if (!isEnded(state)) return null;
  return (
    <footer>
      <Fallback state={state} />
      <Notes state={state} />
      {state.error && <Failure thread={thread} state={state} />}
      {state.text !== "" && <Sources answer={node.answer} />}
      <div class="answer-foot">
        <BranchSwitch thread={thread} step={step} />
        <AnswerActions thread={thread} answer={node.answer} />
      </div>
    </footer>
  );
}

/** Which model should have answered. */
function Fallback({ state: { fallbacks, passedOver, model, degraded } }: { state: AnswerState }) {
  if (!fallbacks || model === null) return null;
  const names = passedOver.filter((each) => each !== model).map(modelName);
  const failed = names.length > 0 ? names.join(", ") : "The chosen model";
  return (
    <Banner kind="warning">
      {`${failed} did not answer. `}
      {degraded ? "These sentences are quoted without a language model." : `${modelName(model)} answered instead.`}
    </Banner>
  );
}

function Notes({ state }: { state: AnswerState }) {
  const { status, degraded, unready_documents, unsupported, finish_reason } = state;
  const notes = [
    status === "cancelled" && "Stopped",
    finish_reason === "length" && "The answer was cut at the longest length that is allowed.",
    finish_reason === "content_filter" && "The model's provider held the rest back.",
    degraded && state.citations.length > 0 && "Sentences quoted from your documents, without a language model",
    unsupported.length > 0 && `Dotted line: ${UNSUPPORTED.toLowerCase()}.`,
  ].filter((note) => typeof note === "string");
  return (
    <>
      {notes.map((note) => (
        <p key={note} class="note">
          {note}
        </p>
      ))}
      {unready_documents.length > 0 && <Unready documents={unready_documents} />}
    </>
  );
}

function Unready({ documents }: { documents: AnswerState["unready_documents"] }) {
  const failed = documents.filter(({ status }) => status === "failed").length;
  const coming = documents.length - failed;
  const sentences = [
    coming > 0 &&
      `${count(coming, "document")} ${coming === 1 ? "was" : "were"} still being processed and ${coming === 1 ? "was" : "were"} left out.`,
    failed > 0 && `${count(failed, "document")} could not be read and ${failed === 1 ? "was" : "were"} left out.`,
  ].filter((sentence) => typeof sentence === "string");
  return (
    <details class="note unready">
      <summary>{sentences.join(" ")}</summary>
      <ul>
        {documents.map(({ document_id, filename }) => (
          <li key={document_id} dir="auto">
            {filename || "Deleted document"}
          </li>
        ))}
      </ul>
    </details>
  );
}

function Failure({ thread, state }: { thread: Thread; state: AnswerState }) {
  const { error } = state;
  if (!error) return null;
  return (
    <div class="failure" role="alert">
      <Icon name="warning" />
      <p>
        {error.message || "The answer could not be written."} {remedyFor(error.code)}{" "}
        {state.text !== "" && "What was written so far is kept."}
      </p>
      {error.retryable && (
        <Button icon="retry" disabled={thread.isBusy.value} onClick={() => void regenerate(thread, state)}>
          Try again
        </Button>
      )}
    </div>
  );
}
