/** Which document lies open beside the chat, and where. */
import { perUser } from "../api/session";

export interface Viewing {
  documentId: string;
  filename: string;
  /** From 1. */
  page: number;
  /** Words to be marked: `start` and `end` are code points in the page's text, as citations have them. */
  quote: { start: number; end: number; text: string } | null;
}

export const viewing = perUser<Viewing | null>(null);

export function openViewer(next: Viewing): void {
  viewing.value = next;
}

export function closeViewer(): void {
  viewing.value = null;
}
