/** An answer as it is known so far, and how each frame of its stream changes it. Pure functions. */
import type { Schemas } from "../api/client";
import type { Frame } from "../api/events";
import type { Span } from "../text/marks";

type Stored = Schemas["AnswerOut"];
export type Citation = Omit<Schemas["MessageCitationOut"], "source_deleted"> & { source_deleted?: boolean };
type AnswerStatus = "queued" | "running" | "completed" | "failed" | "cancelled";
type RunError = NonNullable<Stored["error"]>;

export interface Source {
  n: number;
  document_id: string;
  chunk_id: string;
  filename: string;
  page_start: number;
  page_end: number;
  score: number;
}

/** What a run tells of itself at its end. */
interface Ending extends Pick<Stored, "cost_usd" | "finish_reason" | "model_version" | "degraded" | "fallbacks"> {
  usage: { input_tokens: number; output_tokens: number; total_tokens: number; estimated: boolean } | null;
  unsupported: readonly Span[];
}

export interface AnswerState
  extends Ending,
    Pick<Stored, "id" | "run_id" | "unready_documents" | "error" | "model" | "created_at" | "feedback"> {
  status: AnswerStatus;
  text: string;
  /** Of `text`, in code points. */
  length: number;
  citations: readonly Citation[];
  /** null: not asked for yet. */
  sources: readonly Source[] | null;
  /** Models that were asked before the one that answers, as far as somebody looked on. */
  passedOver: readonly string[];
}

interface StartFields {
  model: string;
  sources: Source[];
  unready_documents?: Stored["unready_documents"];
}

type AnswerFrame =
  | ({ type: "start" } & StartFields)
  | { type: "token"; token: string; offset: number }
  | ({ type: "citation" } & Citation)
  | ({ type: "snapshot"; text: string; citations: Citation[] } & StartFields)
  | ({ type: "error" } & RunError)
  | ({ type: "done"; status: AnswerStatus } & Ending)
  | { type: "ping" };

export function newAnswer(id: string, run_id: string): AnswerState {
  return {
    ...{ id, run_id, created_at: new Date().toISOString(), status: "queued", error: null, model: null, feedback: null },
    ...{ text: "", length: 0, citations: [], sources: null, unready_documents: [], unsupported: [] },
    ...{ usage: null, cost_usd: null, finish_reason: null, model_version: null, degraded: false },
    ...{ fallbacks: 0, passedOver: [] },
  };
}

export function fromMessage(message: Stored): AnswerState {
  return {
    ...message,
    ...written(message.content),
    status: message.status ?? "completed",
    sources: null,
    passedOver: [],
    usage: message.usage as Ending["usage"],
    unsupported: message.unsupported as unknown as Span[],
  };
}

/** What is asked of a run itself, when its stream can't be read to the end. */
export function withRun(state: AnswerState, run: Schemas["RunOut"]): AnswerState {
  // The schema says no more of these than that they are objects.
  const { status, model, citations, sources, unready_documents, error } = run as unknown as AnswerState;
  const ending = endingOf(run as unknown as Ending);
  return { ...state, ...written(run.answer), ...ending, status, model, citations, sources, unready_documents, error };
}

export function isEnded({ status }: { status: string }): boolean {
  return status !== "queued" && status !== "running";
}

export function applyFrame(state: AnswerState, frame: Frame): AnswerState {
  const event = frame as unknown as AnswerFrame;
  switch (event.type) {
    case "start":
      return { ...state, ...started(event), passedOver: passedOverBy(state, event.model) };
    case "token":
      return appendToken(state, event.token, event.offset);
    case "citation":
      return addCitation(state, event);
    case "snapshot":
      return {
        ...state,
        ...started(event),
        ...written(event.text),
        citations: event.citations,
      };
    case "error":
      return { ...state, error: { code: event.code, message: event.message, retryable: event.retryable } };
    case "done":
      return { ...state, ...endingOf(event), status: event.status };
    default:
      return state;
  }
}

function started({ model, sources, unready_documents }: StartFields): Partial<AnswerState> {
  return { status: "running", model, sources, unready_documents: unready_documents ?? [] };
}

/** A second start: another model has taken over. */
function passedOverBy({ model, passedOver }: AnswerState, next: string): readonly string[] {
  return model === null || model === next || passedOver.includes(model) ? passedOver : [...passedOver, model];
}

/** Of a replayed token only what is not there yet. */
function appendToken(state: AnswerState, token: string, offset: number): AnswerState {
  const known = state.length - offset;
  const rest = known > 0 ? [...token].slice(known).join("") : token;
  if (rest === "") return state;
  return { ...state, text: state.text + rest, length: state.length + countCodePoints(rest) };
}

function addCitation(state: AnswerState, citation: Citation): AnswerState {
  const isKnown = state.citations.some((each) => each.answer_start === citation.answer_start && each.n === citation.n);
  return isKnown ? state : { ...state, citations: [...state.citations, citation] };
}

function endingOf(ending: Ending): Ending {
  const { usage, cost_usd, finish_reason, model_version, degraded, fallbacks, unsupported } = ending;
  return {
    ...{ usage, cost_usd, finish_reason, model_version },
    ...{ degraded: degraded ?? false, fallbacks: fallbacks ?? 0, unsupported: unsupported ?? [] },
  };
}

const written = (text: string) => ({ text, length: countCodePoints(text) });

function countCodePoints(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
