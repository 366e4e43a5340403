import { models } from "../api/models";
import type { Thread } from "./thread";

/** Which model answers next; nothing where there is no choice. */
export function ModelPicker({ thread }: { thread: Thread }) {
  const choices = models.value?.models ?? [];
  if (choices.length < 2) return null;
  const chosen =
    choices.find((each) => each.id === thread.choice.value.model) ?? choices.find((each) => each.is_default);
  return (
    <select
      class="model-picker"
      aria-label="Model"
      title={chosen?.id}
      value={chosen?.id ?? ""}
      onChange={(event) =>
        (thread.choice.value = { ...thread.choice.peek(), model: event.currentTarget.value || null })
      }
    >
      {!chosen && <option value="">Default model</option>}
      {choices.map(({ id, state }) => (
        <option key={id} value={id}>
          {nameOf(id)}
          {state === "ok" ? "" : ` (${state})`}
        </option>
      ))}
    </select>
  );
}

/** "openai/gpt-5" is "gpt-5" here; the provider is in the title. */
function nameOf(id: string): string {
  return id.slice(id.indexOf("/") + 1);
}
