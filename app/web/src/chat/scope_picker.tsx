import { useState } from "preact/hooks";
import { count } from "../text/format";
import { Icon } from "../ui/icon";
import type { Scope } from "./kept";
import { ScopeDialog } from "./scope_dialog";
import type { Thread } from "./thread";

/** What is searched: a button that changes it, and a chip for each part that can be taken out. */
export function ScopePicker({ thread }: { thread: Thread }) {
  const [isOpen, setOpen] = useState(false);
  const { scope } = thread.choice.value;
  const setScope = (next: Scope) => (thread.choice.value = { ...thread.choice.peek(), scope: next });
  const parts = partsOf(scope);
  return (
    <div class="scope">
      <button
        type="button"
        class="scope-opener"
        aria-haspopup="dialog"
        title="Choose which documents are searched"
        onClick={() => setOpen(true)}
      >
        <Icon name="filter" size={15} />
        <span>{labelOf(scope)}</span>
      </button>
      {parts.map(({ id, name, rest }) => (
        <span key={id} class="scope-chip" title={name}>
          <span class="clip" dir="auto">
            {name}
          </span>
          <button type="button" aria-label={`Remove ${name}`} onClick={() => setScope(rest)}>
            <Icon name="close" size={12} />
          </button>
        </span>
      ))}
      {isOpen && <ScopeDialog scope={scope} onChange={setScope} onClose={() => setOpen(false)} />}
    </div>
  );
}

function labelOf(scope: Scope): string {
  if (scope.kind === "tags" && scope.tags.length > 0) return scope.tags.length === 1 ? "With the tag" : "With all tags";
  if (scope.kind === "documents" && scope.documents.length > 0) return count(scope.documents.length, "document");
  return "All documents";
}

function partsOf(scope: Scope): { id: string; name: string; rest: Scope }[] {
  if (scope.kind === "tags") {
    return scope.tags.map((tag) => ({
      id: tag,
      name: tag,
      rest: simplify({ kind: "tags", tags: scope.tags.filter((each) => each !== tag) }),
    }));
  }
  if (scope.kind === "all") return [];
  return scope.documents.map(({ id, filename }) => ({
    ...{ id, name: filename },
    rest: simplify({ kind: "documents", documents: scope.documents.filter((each) => each.id !== id) }),
  }));
}

/** Nothing chosen is all. */
function simplify(scope: Scope): Scope {
  const isEmpty =
    (scope.kind === "tags" && scope.tags.length === 0) || (scope.kind === "documents" && scope.documents.length === 0);
  return isEmpty ? { kind: "all" } : scope;
}
