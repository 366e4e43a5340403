import { useEffect, useState } from "preact/hooks";
import { api, read } from "../api/client";
import { messageOf } from "../api/errors";
import { formatNumber } from "../text/format";
import { useDebounced } from "../text/use_debounced";
import { Button, Spinner } from "../ui/button";
import { Dialog } from "../ui/dialog";
import type { Scope } from "./kept";
import "./scope_dialog.css";

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

export function ScopeDialog({ scope, onChange, onClose }: ScopeProps & { onClose: () => void }) {
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

/** What a promise gives, or what it threw; undefined while it is under way. */
function useLoaded<T>(load: () => Promise<T>, key: string): { data?: T; error?: unknown } {
  const [loaded, setLoaded] = useState<{ data?: T; error?: unknown }>({});
  useEffect(() => {
    let isCurrent = true;
    load().then(
      (data) => isCurrent && setLoaded({ data }),
      (error: unknown) => isCurrent && setLoaded({ error }),
    );
    return () => {
      isCurrent = false;
    };
  }, [key]);
  return loaded;
}

function TagChoice({ chosen, onChange }: { chosen: readonly string[]; onChange: (scope: Scope) => void }) {
  const { data, error } = useLoaded(() => read(api.GET("/api/v1/documents/tags")), "");
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
  const { data, error } = useLoaded(() => read(api.GET("/api/v1/documents", { params: { query } })), wanted);
  const others = (data?.items ?? []).filter(({ id }) => !chosen.some((each) => each.id === id));
  const toggle = (id: string, filename: string, isOn: boolean) =>
    onChange({
      kind: "documents",
      documents: isOn ? [...chosen, { id, filename }] : chosen.filter((each) => each.id !== id),
    });
  return (
    <div class="scope-documents">
      <input
        type="search"
        dir="auto"
        aria-label="Search documents by name"
        placeholder="Search by name"
        value={name}
        onInput={(event) => setName(event.currentTarget.value)}
      />
      {error !== undefined && <p role="alert">{messageOf(error)}</p>}
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
