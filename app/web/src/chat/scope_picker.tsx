import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { messageOf } from "../api/errors";
import { useLoaded } from "../api/use_loaded";
import { count, formatNumber } from "../text/format";
import { useDebounced } from "../text/use_debounced";
import { Button, Spinner } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { SearchField } from "../ui/field";
import { Icon } from "../ui/icon";
import type { Scope } from "./kept";
import type { Thread } from "./thread";
import "./scope_dialog.css";

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

interface ScopeProps {
  scope: Scope;
  onChange: (scope: Scope) => void;
}

const KINDS = [
  { kind: "all", label: "All documents", note: "Everything that is ready." },
  { kind: "tags", label: "Documents with tags", note: "Those that have all of the chosen tags." },
  { kind: "documents", label: "Chosen documents", note: "Only those that you pick." },
] as const;
const EMPTY = {
  all: { kind: "all" },
  tags: { kind: "tags", tags: [] },
  documents: { kind: "documents", documents: [] },
} as const;

function ScopeDialog({ scope, onChange, onClose }: ScopeProps & { onClose: () => void }) {
  const done = (
    <Button kind="primary" onClick={onClose}>
      Done
    </Button>
  );
  return (
    <Dialog title="Which documents are searched" onClose={onClose} actions={done}>
      <fieldset class="scope-kinds">
        <legend class="visually-hidden">Which documents are searched</legend>
        {KINDS.map(({ kind, label, note }) => (
          <label key={kind}>
            <input type="radio" name="scope" checked={scope.kind === kind} onChange={() => onChange(EMPTY[kind])} />
            <span>
              {label}
              <small>{note}</small>
            </span>
          </label>
        ))}
      </fieldset>
      {scope.kind === "tags" && <TagChoice chosen={scope.tags} onChange={onChange} />}
      {scope.kind === "documents" && <DocumentChoice chosen={scope.documents} onChange={onChange} />}
    </Dialog>
  );
}

function TagChoice({ chosen, onChange }: { chosen: readonly string[]; onChange: (scope: Scope) => void }) {
  const { data, error } = useLoaded(() => read(api.GET("/api/v1/documents/tags")));
  if (error) return <p role="alert">{messageOf(error)}</p>;
  if (!data) return <Spinner />;
  if (data.items.length === 0)
    return <p class="scope-none">No document has a tag yet. Tags are given on the page of a document.</p>;
  const toggle = (tag: string) =>
    onChange({ kind: "tags", tags: chosen.includes(tag) ? chosen.filter((each) => each !== tag) : [...chosen, tag] });
  return (
    <div class="scope-tags" role="group" aria-label="Tags">
      {data.items.map(({ tag, documents }) => (
        <button key={tag} type="button" aria-pressed={chosen.includes(tag)} title={tag} onClick={() => toggle(tag)}>
          <span class="clip" dir="auto">
            {tag}
          </span>
          <small>{formatNumber(documents)}</small>
        </button>
      ))}
    </div>
  );
}

type Chosen = readonly { id: string; filename: string }[];

function DocumentChoice({ chosen, onChange }: { chosen: Chosen; onChange: (scope: Scope) => void }) {
  const [name, setName] = useState("");
  const wanted = useDebounced(name.trim());
  const query = { status: ["ready" as const], limit: 20, ...(wanted ? { name: wanted } : {}) };
  const { data, error } = useLoaded(() => read(api.GET("/api/v1/documents", { params: { query } })), [wanted]);
  const others = (data?.items ?? []).filter(({ id }) => !chosen.some((each) => each.id === id));
  const toggle = (id: string, filename: string, isOn: boolean) =>
    onChange({
      kind: "documents",
      documents: isOn ? [...chosen, { id, filename }] : chosen.filter((each) => each.id !== id),
    });
  return (
    <div class="scope-documents">
      <SearchField
        label="Find by name"
        maxLength={255}
        value={name}
        onInput={(event) => setName(event.currentTarget.value)}
      />
      {error !== null && <p role="alert">{messageOf(error)}</p>}
      {data && others.length === 0 && (
        <p class="scope-none">{wanted ? "No other ready document has this name." : "No other document is ready."}</p>
      )}
      <ul class="scope-names">
        {[...chosen, ...others].map(({ id, filename }) => (
          <li key={id}>
            <label title={filename}>
              <input
                type="checkbox"
                checked={chosen.some((each) => each.id === id)}
                onChange={(event) => toggle(id, filename, event.currentTarget.checked)}
              />
              <span class="clip" dir="auto">
                {filename}
              </span>
            </label>
          </li>
        ))}
      </ul>
      {data && data.total > data.items.length && (
        <p class="scope-none">{formatNumber(data.total - data.items.length)} more: search for their names.</p>
      )}
    </div>
  );
}
