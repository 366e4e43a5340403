/** An answer as it is known so far, and how each frame of its stream changes it. Pure functions. */
import type { Schemas } from "../api/client";
import type { Frame } from "../api/events";
import type { Span } from "../text/marks";

export type Citation = Omit<Schemas["MessageCitationOut"], "source_deleted"> & { source_deleted?: boolean };
export type AnswerStatus = "queued" | "running" | "completed" | "failed" | "cancelled";
export type UnreadyDocument = Schemas["UnreadyDocumentOut"];
export type RunError = Schemas["RunErrorOut"];
export type Feedback = Schemas["FeedbackOut"];

export interface Source {
  n: number;
  document_id: string;
  chunk_id: string;
  filename: string;
  page_start: number;
  page_end: number;
  score: number;
}

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  total_tokens: number;
  estimated: boolean;
}

/** What a run tells of itself; the same in its stream and in its record. */
interface Ending {
  usage: Usage | null;
  cost_usd: string | null;
  finish_reason: string | null;
  model_version: string | null;
  degraded: boolean;
  unsupported: readonly Span[];
}

export interface AnswerState extends Ending {
  id: string;
  runId: string | null;
  status: AnswerStatus;
  text: string;
  /** Of `text`, in code points. */
  length: number;
  citations: readonly Citation[];
  /** null: not asked for yet. */
  sources: readonly Source[] | null;
  unready: readonly UnreadyDocument[];
  error: RunError | null;
  model: string | null;
  createdAt: string;
  feedback: Feedback | null;
}

interface StartFields {
  model: string;
  sources: Source[];
  unready_documents?: UnreadyDocument[];
}

type AnswerFrame =
  | ({ type: "start" } & StartFields)
  | { type: "token"; token: string; offset: number }
  | ({ type: "citation" } & Citation)
  | ({ type: "snapshot"; text: string; citations: Citation[] } & StartFields)
  | ({ type: "error" } & RunError)
  | ({ type: "done"; status: AnswerStatus } & Ending)
  | { type: "ping" };

const NO_ENDING: Ending = {
  usage: null,
  cost_usd: null,
  finish_reason: null,
  model_version: null,
  degraded: false,
  unsupported: [],
};

export function newAnswer(id: string, runId: string): AnswerState {
  return {
    ...NO_ENDING,
    ...{ id, runId, status: "queued", text: "", length: 0, citations: [], sources: null, unready: [], error: null },
    ...{ model: null, createdAt: new Date().toISOString(), feedback: null },
  };
}

export function fromMessage(message: Schemas["AnswerOut"]): AnswerState {
  return {
    ...{ id: message.id, runId: message.run_id, status: message.status ?? "completed" },
    ...{ text: message.content, length: countCodePoints(message.content), citations: message.citations, sources: null },
    ...{
      unready: message.unready_documents,
      error: message.error,
      model: message.model,
      createdAt: message.created_at,
    },
    ...{ feedback: message.feedback, usage: message.usage as Usage | null, cost_usd: message.cost_usd },
    ...{ finish_reason: message.finish_reason, model_version: message.model_version, degraded: message.degraded },
    unsupported: message.unsupported as unknown as Span[],
  };
}

/** What is asked of a run itself, when its stream can't be read to the end. */
export function withRun(state: AnswerState, run: Schemas["RunOut"]): AnswerState {
  return {
    ...state,
    ...{ status: run.status as AnswerStatus, text: run.answer, length: countCodePoints(run.answer), model: run.model },
    citations: run.citations as unknown as Citation[],
    sources: run.sources as unknown as Source[],
    unready: run.unready_documents as unknown as UnreadyDocument[],
    error: run.error as RunError | null,
    ...{ usage: run.usage as Usage | null, cost_usd: run.cost_usd, finish_reason: run.finish_reason },
    ...{ model_version: run.model_version, degraded: run.degraded ?? false },
    unsupported: (run.unsupported ?? []) as unknown as Span[],
  };
}

export function isEnded({ status }: { status: string }): boolean {
  return status !== "queued" && status !== "running";
}

export function applyFrame(state: AnswerState, frame: Frame): AnswerState {
  const event = frame as unknown as AnswerFrame;
  switch (event.type) {
    case "start":
      return { ...state, ...started(event) };
    case "token":
      return appendToken(state, event.token, event.offset);
    case "citation":
      return addCitation(state, event);
    case "snapshot":
      return {
        ...state,
        ...started(event),
        text: event.text,
        length: countCodePoints(event.text),
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
  return { status: "running", model, sources, unready: unready_documents ?? [] };
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

function endingOf(done: Ending): Ending {
  const { usage, cost_usd, finish_reason, model_version, degraded, unsupported } = done;
  return { usage, cost_usd, finish_reason, model_version, degraded, unsupported: unsupported ?? [] };
}

function countCodePoints(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
