import { useEffect, useState } from "preact/hooks";
import { count } from "../text/format";
import { Button, IconButton } from "../ui/button";
import { Icon } from "../ui/icon";
import { ask } from "./asking";
import type { Refusal, Thread } from "./thread";

/** Why a question was not taken, and a way to ask it again. */
export function RefusalNotice({ thread }: { thread: Thread }) {
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
  const isBusy = thread.asking.value !== null || thread.writing.value !== null;
  return (
    <Button icon="retry" disabled={waitS > 0 || isBusy} onClick={() => void ask(thread, refusal.asking)}>
      {waitS > 0 ? `Try again in ${count(waitS, "second")}` : "Try again"}
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
