import { effect } from "@preact/signals";
import { user } from "../api/session";

/** Calls `forget` when somebody else has signed in: what the page knows is another person's. */
export function onOtherUser(forget: () => void): void {
  let last: string | null = null;
  effect(() => {
    const id = user.value?.id ?? null;
    if (id === null || id === last) return;
    if (last !== null) forget();
    last = id;
  });
}
