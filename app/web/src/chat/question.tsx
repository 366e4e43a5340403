import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Button, IconButton } from "../ui/button";
import { copy } from "./answer_actions";
import { ask, MAX_QUESTION } from "./asking";
import { BranchSwitch } from "./branch_switch";
import type { Step } from "./branches";
import { LengthNote, lengthOf } from "./length_note";
import { fitHeight, isSubmit } from "./text_area";
import type { MessageNode, QuestionNode, Thread } from "./thread";

export function Question({ thread, node, step }: { thread: Thread; node: QuestionNode; step: Step<MessageNode> }) {
  const [isEditing, setEditing] = useState(false);
  const isBusy = thread.asking.value !== null || thread.writing.value !== null;
  const isStored = !node.id.startsWith("local-");
  if (isEditing) return <QuestionEditor thread={thread} node={node} onClose={() => setEditing(false)} />;
  return (
    <div class="question">
      <h2 class="visually-hidden">Question</h2>
      <div class="bubble" dir="auto">
        {node.content}
      </div>
      <div class="actions">
        <BranchSwitch thread={thread} step={step} />
        <IconButton icon="copy" label="Copy the question" onClick={() => void copy(node.content)} />
        {isStored && (
          <IconButton icon="edit" label="Edit and ask again" disabled={isBusy} onClick={() => setEditing(true)} />
        )}
      </div>
    </div>
  );
}

/** Stays open until the changed question was taken, so that nothing typed is lost. */
function QuestionEditor({ thread, node, onClose }: { thread: Thread; node: QuestionNode; onClose: () => void }) {
  const [text, setText] = useState(node.content);
  const area = useRef<HTMLTextAreaElement>(null);
  const isBusy = thread.asking.value !== null;
  const content = text.trim();
  const canAsk = content !== "" && lengthOf(content) <= MAX_QUESTION && !isBusy && thread.writing.value === null;
  useLayoutEffect(() => fitHeight(area.current), [text]);
  useLayoutEffect(() => area.current?.focus(), []);

  async function send() {
    if (canAsk && (await ask(thread, { content, parentId: node.parentId, replaces: node.id }))) onClose();
  }
  function onKeyDown(event: KeyboardEvent) {
    if (event.key === "Escape") return onClose();
    if (!isSubmit(event)) return;
    event.preventDefault();
    void send();
  }
  return (
    <div class="question editing">
      <textarea
        ref={area}
        dir="auto"
        aria-label="Your question"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <div class="buttons">
        <LengthNote text={text} />
        <Button kind="quiet" onClick={onClose}>
          Cancel
        </Button>
        <Button kind="primary" isBusy={isBusy} disabled={!canAsk} onClick={() => void send()}>
          Ask again
        </Button>
      </div>
    </div>
  );
}
