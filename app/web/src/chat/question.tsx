import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { copy } from "../text/clipboard";
import { Button, IconButton } from "../ui/button";
import { ask } from "./asking";
import { BranchSwitch } from "./branch_switch";
import type { Step } from "./branches";
import { isAskable, LengthNote, QuestionArea } from "./question_area";
import type { MessageNode, QuestionNode, Thread } from "./thread";

export function Question({ thread, node, step }: { thread: Thread; node: QuestionNode; step: Step<MessageNode> }) {
  const [isEditing, setEditing] = useState(false);
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
          <IconButton
            icon="edit"
            label="Edit and ask again"
            disabled={thread.isBusy.value}
            onClick={() => setEditing(true)}
          />
        )}
      </div>
    </div>
  );
}

/** Stays open until the changed question was taken, so that nothing typed is lost. */
function QuestionEditor({ thread, node, onClose }: { thread: Thread; node: QuestionNode; onClose: () => void }) {
  const [text, setText] = useState(node.content);
  const area = useRef<HTMLTextAreaElement>(null);
  const content = text.trim();
  const canAsk = isAskable(content) && !thread.isBusy.value;
  useLayoutEffect(() => area.current?.focus(), []);

  async function send() {
    if (canAsk && (await ask(thread, { content, parentId: node.parentId, replaces: node.id }))) onClose();
  }
  return (
    <div class="question editing">
      <QuestionArea area={area} text={text} onText={setText} onSubmit={() => void send()} onEscape={onClose} />
      <div class="buttons">
        <LengthNote text={text} />
        <Button kind="quiet" onClick={onClose}>
          Cancel
        </Button>
        <Button kind="primary" isBusy={thread.asking.value !== null} disabled={!canAsk} onClick={() => void send()}>
          Ask again
        </Button>
      </div>
    </div>
  );
}
