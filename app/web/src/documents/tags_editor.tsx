import type { TargetedKeyboardEvent } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { formatNumber } from "../text/format";
import { Icon } from "../ui/icon";
import { tags as knownTags, loadTags } from "./list_state";
import "./tags_editor.css";

/** As the server has them. */
export const MAX_TAGS = 32;
const MAX_TAG_CHARS = 64;
const CONTROL = /\p{Cc}|\p{Cs}/u;

interface TagsEditorProps {
  tags: readonly string[];
  onChange: (tags: readonly string[]) => void;
}

/** Chips with a field: Enter or a comma adds a tag, Backspace in the empty field takes the last away. */
export function TagsEditor({ tags, onChange }: TagsEditorProps) {
  const [text, setText] = useState("");
  const [error, setError] = useState<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const id = useId();
  useEffect(() => void loadTags(), []);

  function add(typed: string) {
    const added = typed.split(",").map(cleaned).filter(Boolean);
    const next = [...new Set([...tags, ...added])];
    const problem =
      added.map(problemOf).find(Boolean) ??
      (next.length > MAX_TAGS ? `A document has at most ${formatNumber(MAX_TAGS)} tags.` : null);
    setError(problem ?? null);
    if (problem) return;
    setText("");
    if (next.length > tags.length) onChange(next);
  }

  function remove(tag: string) {
    onChange(tags.filter((each) => each !== tag));
    setError(null);
    input.current?.focus();
  }

  function press(event: TargetedKeyboardEvent<HTMLInputElement>) {
    if (event.isComposing) return;
    const last = tags.at(-1);
    if (event.key === "Enter" || event.key === ",") {
      event.preventDefault();
      add(text);
    } else if (event.key === "Backspace" && text === "" && last !== undefined) remove(last);
  }

  return (
    <div class="tags-editor">
      <ul class="tag-chips" aria-label="Tags">
        {tags.map((tag) => (
          <li key={tag} class="tag-chip">
            <span class="clip" dir="auto" title={tag}>
              {tag}
            </span>
            <button type="button" class="chip-remove" aria-label={`Remove the tag ${tag}`} onClick={() => remove(tag)}>
              <Icon name="close" size={12} />
            </button>
          </li>
        ))}
      </ul>
      <input
        ref={input}
        list={`${id}-known`}
        dir="auto"
        placeholder="Add a tag"
        aria-label="Add a tag"
        aria-describedby={`${id}-note`}
        aria-invalid={error ? true : undefined}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={press}
        onBlur={() => text && add(text)}
      />
      <datalist id={`${id}-known`}>
        {knownTags.value
          .filter(({ tag }) => !tags.includes(tag))
          .slice(0, 100)
          .map(({ tag }) => (
            <option key={tag} value={tag} />
          ))}
      </datalist>
      <p id={`${id}-note`} class={error ? "field-note error" : "field-note"} role={error ? "alert" : undefined}>
        {error ?? "Enter or a comma adds it."}
      </p>
    </div>
  );
}

const cleaned = (tag: string) => tag.trim().normalize("NFC");

function problemOf(tag: string): string | null {
  if ([...tag].length > MAX_TAG_CHARS) return `A tag has at most ${formatNumber(MAX_TAG_CHARS)} characters.`;
  return CONTROL.test(tag) ? "A tag has no control characters." : null;
}
