import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { Icon } from "../ui/icon";
import { askNext, MAX_QUESTION } from "./asking";
import { LengthNote, lengthOf } from "./length_note";
import { ModelPicker } from "./model_picker";
import { stopAnswer } from "./reading";
import { RefusalNotice } from "./refusal_notice";
import { ScopePicker } from "./scope_picker";
import { fitHeight, isSubmit } from "./text_area";
import type { Thread } from "./thread";
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
  const canAsk =
    content !== "" &&
    lengthOf(content) <= MAX_QUESTION &&
    !isWriting &&
    thread.asking.value === null &&
    thread.loading.value === "ready";
  useLayoutEffect(() => fitHeight(area.current), [draft]);
  // A screen keyboard would hide half of the page.
  useEffect(() => void (window.matchMedia("(pointer: fine)").matches && area.current?.focus()), []);

  function send() {
    if (!canAsk) return;
    void askNext(thread, content);
    onAsk();
    area.current?.focus();
  }
  function onKeyDown(event: KeyboardEvent) {
    if (!isSubmit(event)) return;
    event.preventDefault();
    send();
  }
  return (
    <div class="composer">
      <RefusalNotice thread={thread} />
      <div class="box">
        <textarea
          ref={area}
          dir="auto"
          rows={1}
          aria-label="Your question"
          placeholder="Ask about your documents"
          value={draft}
          onInput={(event) => (thread.draft.value = event.currentTarget.value)}
          onKeyDown={onKeyDown}
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
