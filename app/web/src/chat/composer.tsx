import { useEffect, useRef, useState } from "preact/hooks";
import { modelName, models, stateName } from "../api/models";
import { formatWait } from "../text/format";
import { Button, IconButton } from "../ui/button";
import { Icon } from "../ui/icon";
import { ask, askNext } from "./asking";
import { isAskable, LengthNote, QuestionArea } from "./question_area";
import { stopAnswer } from "./reading";
import { ScopePicker } from "./scope_picker";
import type { Refusal, Thread } from "./thread";
import "./composer.css";

interface ComposerProps {
  thread: Thread;
  /** Called when a question is on its way. */
  onAsk: () => void;
}

export function Composer({ thread, onAsk }: ComposerProps) {
  const area = useRef<HTMLTextAreaElement>(null);
  const draft = thread.draft.value;
  const isWriting = thread.writing.value !== null;
  const content = draft.trim();
  const canAsk = isAskable(content) && !thread.isBusy.value && thread.loading.value === "ready";
  // A screen keyboard would hide half of the page.
  useEffect(() => void (window.matchMedia("(pointer: fine)").matches && area.current?.focus()), []);

  function send() {
    if (!canAsk) return;
    void askNext(thread, content);
    onAsk();
    area.current?.focus();
  }
  return (
    <div class="composer">
      <RefusalNotice thread={thread} />
      <div class="box">
        <QuestionArea
          area={area}
          text={draft}
          placeholder="Ask about your documents"
          onText={(text) => (thread.draft.value = text)}
          onSubmit={send}
        />
        <div class="tools">
          <ScopePicker thread={thread} />
          <LengthNote text={draft} />
          <ModelPicker thread={thread} />
          {isWriting ? (
            <StopButton thread={thread} onStop={() => area.current?.focus()} />
          ) : (
            <SendButton isDisabled={!canAsk} onSend={send} />
          )}
        </div>
      </div>
    </div>
  );
}

function SendButton({ isDisabled, onSend }: { isDisabled: boolean; onSend: () => void }) {
  return (
    <button type="button" class="send" aria-label="Ask" title="Ask (Enter)" disabled={isDisabled} onClick={onSend}>
      <Icon name="send" />
    </button>
  );
}

function StopButton({ thread, onStop }: { thread: Thread; onStop: () => void }) {
  function stop() {
    onStop();
    void stopAnswer(thread);
  }
  return (
    <button
      type="button"
      class="send stop"
      aria-label="Stop the answer"
      title="Stop the answer"
      disabled={thread.isStopping.value}
      onClick={stop}
    >
      <Icon name="stop" />
    </button>
  );
}

/** Which model answers next; nothing where there is no choice. */
function ModelPicker({ thread }: { thread: Thread }) {
  const choices = models.value?.models ?? [];
  if (choices.length < 2) return null;
  const chosen =
    choices.find((each) => each.id === thread.choice.value.model) ?? choices.find((each) => each.is_default);
  return (
    <select
      class="model-picker"
      aria-label="Model"
      title={chosen?.id}
      value={chosen?.id ?? ""}
      onChange={(event) =>
        (thread.choice.value = { ...thread.choice.peek(), model: event.currentTarget.value || null })
      }
    >
      {!chosen && <option value="">Default model</option>}
      {choices.map(({ id, state }) => (
        <option key={id} value={id}>
          {modelName(id)}
          {state === "ok" ? "" : ` (${stateName(state).toLowerCase()})`}
        </option>
      ))}
    </select>
  );
}

/** Why a question was not taken, and a way to ask it again. */
function RefusalNotice({ thread }: { thread: Thread }) {
  const refusal = thread.refusal.value;
  if (!refusal) return null;
  return (
    <div class="refusal">
      <Icon name="warning" />
      <p role="alert">{refusal.message}</p>
      {refusal.canRetry && <RetryButton key={refusal.retryAt} thread={thread} refusal={refusal} />}
      <IconButton icon="close" label="Dismiss" onClick={() => (thread.refusal.value = null)} />
    </div>
  );
}

function RetryButton({ thread, refusal }: { thread: Thread; refusal: Refusal }) {
  const waitS = useSecondsUntil(refusal.retryAt);
  return (
    <Button icon="retry" disabled={waitS > 0 || thread.isBusy.value} onClick={() => void ask(thread, refusal.asking)}>
      {waitS > 0 ? `Try again in ${formatWait(waitS)}` : "Try again"}
    </Button>
  );
}

function useSecondsUntil(moment: number): number {
  const left = () => Math.max(0, Math.ceil((moment - Date.now()) / 1000));
  const [seconds, setSeconds] = useState(left);
  useEffect(() => {
    if (seconds === 0) return;
    const timer = setInterval(() => setSeconds(left()), 500);
    return () => clearInterval(timer);
  }, [moment, seconds === 0]);
  return seconds;
}
