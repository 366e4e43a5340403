import { signal } from "@preact/signals";
import { navigate } from "../router";

/** The one document that the next question is to be about; the chat takes it and sets null again. */
export const askAbout = signal<{ id: string; filename: string } | null>(null);

/** Opens a new chat about one document. */
export function ask(document: { id: string; filename: string }): void {
  askAbout.value = { id: document.id, filename: document.filename };
  navigate("/");
}
