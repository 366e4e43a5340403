/**
 * What a page remembers of each conversation: drafts and the chosen branch for the tab's life, scope
 * and model for the page's. All of it by user and organization: the next one to sign in has their own.
 */
import { principalId } from "../api/session";

export type Scope =
  | { kind: "all" }
  | { kind: "tags"; tags: readonly string[] }
  | { kind: "documents"; documents: readonly { id: string; filename: string }[] };

export interface Choice {
  scope: Scope;
  model: string | null;
}

const choices = new Map<string, Choice>();
const ALL: Choice = { scope: { kind: "all" }, model: null };

const key = (kind: string, conversationId: string | null) =>
  `footnote-${kind}:${principalId.peek() ?? ""}:${conversationId ?? "new"}`;

export function choiceOf(conversationId: string | null): Choice {
  return choices.get(key("choice", conversationId)) ?? ALL;
}

export function keepChoice(conversationId: string | null, choice: Choice | null): void {
  if (choice) choices.set(key("choice", conversationId), choice);
  else choices.delete(key("choice", conversationId));
}

type KeptText = "draft" | "leaf" | "banner";

export function keptText(kind: KeptText, conversationId: string | null): string {
  try {
    return sessionStorage.getItem(key(kind, conversationId)) ?? "";
  } catch {
    return "";
  }
}

export function keepText(kind: KeptText, conversationId: string | null, text: string): void {
  if (!principalId.peek()) return;
  try {
    if (text) sessionStorage.setItem(key(kind, conversationId), text);
    else sessionStorage.removeItem(key(kind, conversationId));
  } catch {
    // A browser that keeps nothing has it as long as the view is open.
  }
}
