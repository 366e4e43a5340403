/** Short messages at the foot of the page, read out by screen readers. */
import { messageOf } from "../api/errors";
import { perUser } from "../api/session";
import { IconButton } from "./button";
import "./toast.css";

interface Toast {
  id: number;
  text: string;
  isError: boolean;
}

const SHOWN_MS = 6000;
const toasts = perUser<Toast[]>([]);
let lastId = 0;

export function tell(text: string): void {
  show(text, false);
}

/** Says why something failed; stays until it is closed. */
export function tellError(error: unknown): void {
  show(messageOf(error), true);
}

function show(text: string, isError: boolean): void {
  const id = ++lastId;
  toasts.value = [...toasts.value.filter((each) => each.text !== text).slice(-2), { id, text, isError }];
  if (!isError) setTimeout(() => dismiss(id), SHOWN_MS);
}

function dismiss(id: number): void {
  toasts.value = toasts.value.filter((each) => each.id !== id);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map(({ id, text, isError }) => (
        <div key={id} class={isError ? "toast error" : "toast"}>
          <span dir="auto">{text}</span>
          <IconButton icon="close" label="Dismiss" onClick={() => dismiss(id)} />
        </div>
      ))}
    </div>
  );
}
