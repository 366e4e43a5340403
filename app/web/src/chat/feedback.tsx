import type { Signal } from "@preact/signals";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { api, read } from "../api/client";
import { Button, IconButton } from "../ui/button";
import { tell, tellError } from "../ui/toast";
import { useAction } from "../ui/use_action";
import type { AnswerState } from "./answer_state";
import type { Thread } from "./thread";

type Rating = "up" | "down";
const MAX_COMMENT = 2000;

let lastSaving: Promise<unknown> = Promise.resolve();

/** Saves it, and shows it at once; what could not be saved is taken back. */
async function rate(
  thread: Thread,
  answer: Signal<AnswerState>,
  rating: Rating | null,
  comment: string | null,
): Promise<boolean> {
  const before = answer.peek().feedback;
  const path = { conversation_id: thread.conversationId.peek() ?? "", message_id: answer.peek().id };
  answer.value = { ...answer.peek(), feedback: rating && { rating, comment, rated_at: new Date().toISOString() } };
  const put = () =>
    read(
      api.PUT("/api/v1/conversations/{conversation_id}/messages/{message_id}/feedback", {
        params: { path },
        body: { rating, comment },
      }),
    );
  try {
    // In the order of the clicks.
    const saving = lastSaving.then(put, put);
    lastSaving = saving;
    await saving;
    return true;
  } catch (error) {
    answer.value = { ...answer.peek(), feedback: before };
    tellError(error);
    return false;
  }
}

interface Props {
  thread: Thread;
  answer: Signal<AnswerState>;
}

export function Thumbs({ thread, answer, onDown }: Props & { onDown: (isDown: boolean) => void }) {
  const given = answer.value.feedback?.rating ?? null;
  function choose(rating: Rating) {
    const next = given === rating ? null : rating;
    onDown(next === "down");
    void rate(thread, answer, next, null);
  }
  return (
    <>
      <IconButton icon="thumb-up" label="Good answer" isOn={given === "up"} onClick={() => choose("up")} />
      <IconButton icon="thumb-down" label="Bad answer" isOn={given === "down"} onClick={() => choose("down")} />
    </>
  );
}

/** What was wrong, for those who like to say it. */
export function Comment({ thread, answer, onClose }: Props & { onClose: () => void }) {
  const [text, setText] = useState("");
  const id = useId();
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => area.current?.focus(), []);
  const { isBusy, run } = useAction(async () => {
    if (!(await rate(thread, answer, "down", text.trim() || null))) return;
    tell("Thank you. Your comment is kept.");
    onClose();
  });
  return (
    <form class="comment" onSubmit={run}>
      <label for={id}>What was wrong? You may leave this out.</label>
      <textarea
        ref={area}
        id={id}
        dir="auto"
        rows={2}
        maxLength={MAX_COMMENT}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <div class="buttons">
        <Button kind="quiet" onClick={onClose}>
          Not now
        </Button>
        <Button type="submit" isBusy={isBusy} disabled={text.trim() === ""}>
          Send
        </Button>
      </div>
    </form>
  );
}
