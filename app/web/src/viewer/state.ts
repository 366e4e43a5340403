/**
 * Which document lies open beside the chat, and where. It is a step in the browser's history: Back
 * closes it, and a reload opens it again.
 */
import { perUser, principalId } from "../api/session";

export interface Viewing {
  documentId: string;
  filename: string;
  /** From 1. */
  page: number;
  /** Words to be marked: `start` and `end` are code points in the page's text, as citations have them. */
  quote: { start: number; end: number; text: string } | null;
}

export const viewing = perUser<Viewing | null>(null);

interface Step {
  viewing: Viewing;
  /** Who opened it: nobody else sees it by going back. */
  principalId: string;
}

export function openViewer(next: Viewing): void {
  const step: Step = { viewing: next, principalId: principalId.peek() ?? "" };
  if (viewingHere()) history.replaceState(step, "");
  else history.pushState(step, "");
  viewing.value = next;
}

export function closeViewer(): void {
  viewing.value = null;
  if (viewingHere()) history.back();
}

/** Shows what each step of the history has open, beginning with the present one. The returned function ends it. */
export function followHistory(): () => void {
  function follow() {
    viewing.value = viewingHere();
  }
  follow();
  window.addEventListener("popstate", follow);
  return () => window.removeEventListener("popstate", follow);
}

function viewingHere(): Viewing | null {
  const step = history.state as Step | null;
  return step?.viewing && step.principalId === principalId.peek() ? step.viewing : null;
}
