import { formatNumber } from "../text/format";
import { IconButton } from "../ui/button";
import type { Step } from "./branches";
import type { MessageNode, Thread } from "./thread";

/** Which of several questions or answers at this place is shown; nothing where there is only one. */
export function BranchSwitch({ thread, step: { node, siblings } }: { thread: Thread; step: Step<MessageNode> }) {
  if (siblings.length < 2) return null;
  const at = siblings.findIndex((each) => each.id === node.id);
  const go = (index: number) => (thread.leaf.value = siblings[index]?.id ?? null);
  const what = node.role === "user" ? "question" : "answer";
  return (
    <div class="branch-switch" role="group" aria-label={`Versions of this ${what}`}>
      <IconButton icon="chevron-left" label={`Previous ${what}`} disabled={at <= 0} onClick={() => go(at - 1)} />
      <span>
        {formatNumber(at + 1)} / {formatNumber(siblings.length)}
      </span>
      <IconButton
        icon="chevron-right"
        label={`Next ${what}`}
        disabled={at >= siblings.length - 1}
        onClick={() => go(at + 1)}
      />
    </div>
  );
}
