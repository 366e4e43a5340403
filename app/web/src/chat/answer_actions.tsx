import type { Signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { copyText } from "../text/clipboard";
import { IconButton } from "../ui/button";
import { Menu } from "../ui/menu";
import { tell } from "../ui/toast";
import { AnswerDetails } from "./answer_details";
import type { AnswerState } from "./answer_state";
import { ask } from "./asking";
import { withCitations, withoutCitations } from "./copying";
import { Comment, Thumbs } from "./feedback";
import type { Thread } from "./thread";

/** Under an answer that has ended: copy, ask again, say what one thinks of it, see what made it. */
export function AnswerActions({ thread, answer }: { thread: Thread; answer: Signal<AnswerState> }) {
  const [isCommenting, setCommenting] = useState(false);
  const [isDetailed, setDetailed] = useState(false);
  const isBusy = thread.asking.value !== null || thread.writing.value !== null;
  const hasText = answer.value.text !== "";
  return (
    <>
      <div class="actions">
        {hasText && <CopyMenu answer={answer} />}
        <IconButton
          icon="retry"
          label="Answer again"
          disabled={isBusy}
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

export async function copy(text: string): Promise<void> {
  try {
    await copyText(text);
    tell("Copied");
  } catch {
    tell("Your browser does not allow copying. Select the text and copy it.");
  }
}
