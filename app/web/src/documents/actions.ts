/** What can be done with a document, from lists and from its own page. Each throws ApiError. */
import { api, get, newIdempotencyKey, read, type Schemas } from "../api/client";
import { perUser } from "../api/session";
import { navigate } from "../router";
import { saveAs } from "../text/save";
import { learn, learnDeleted } from "./feed";
import { sendFile } from "./send_file";

export type DocumentOut = Schemas["DocumentOut"];
export type Receipt = Schemas["DeletionOut"];

/** The one document that the next question is to be about; the chat takes it and sets null again. */
export const askedAbout = perUser<{ id: string; filename: string } | null>(null);

/** Opens a new chat about one document. */
export function askAbout({ id, filename }: { id: string; filename: string }): void {
  askedAbout.value = { id, filename };
  navigate("/");
}

const at = (id: string) => ({ params: { path: { document_id: id } } });

export async function retryDocument(id: string, password?: string): Promise<void> {
  await learn(
    read(api.POST("/api/v1/documents/{document_id}/retry", { ...at(id), body: password ? { password } : {} })),
  );
}

export async function cancelDocument(id: string): Promise<void> {
  await learn(read(api.POST("/api/v1/documents/{document_id}/cancel", at(id))));
}

export function patchDocument(id: string, body: Partial<Schemas["DocumentPatch"]>): Promise<DocumentOut> {
  // What is not named stays as it is.
  return read(api.PATCH("/api/v1/documents/{document_id}", { ...at(id), body: body as Schemas["DocumentPatch"] }));
}

/** Begins a deletion; the document is gone for every reader at once. Returns the receipt's id. */
export async function deleteDocument(id: string): Promise<string> {
  const { deletion_id } = await read(api.DELETE("/api/v1/documents/{document_id}", at(id)));
  learnDeleted(id);
  return deletion_id;
}

export function readReceipt(id: string): Promise<Receipt> {
  return read(api.GET("/api/v1/deletions/{deletion_id}", { params: { path: { deletion_id: id } } }));
}

/** Saves the original under the name of the version that is served. */
export async function downloadDocument(document: { id: string; filename: string }): Promise<void> {
  const response = await get(`/api/v1/documents/${document.id}/content`);
  saveAs(await response.blob(), nameIn(response.headers.get("Content-Disposition")) ?? document.filename);
}

/** Sends new content; the old one is served until that is ready. False: the document has it already. */
export async function replaceContent(
  document: DocumentOut,
  file: File,
  onSent: (share: number) => void,
  signal: AbortSignal,
): Promise<boolean> {
  const path = `/api/v1/documents/${document.id}/content`;
  const answer = await sendFile({ method: "PUT", path, file, idempotencyKey: newIdempotencyKey(), onSent, signal });
  await learn(read(api.GET("/api/v1/documents/{document_id}", at(document.id))));
  return (answer as { version: number }).version > document.version;
}

/** Each in its turn, a few at once; returns how many failed, and why the last of them did. */
export async function forEach<T>(
  items: readonly T[],
  act: (item: T) => Promise<unknown>,
): Promise<{ failed: number; error: unknown }> {
  const waiting = [...items];
  const outcome: { failed: number; error: unknown } = { failed: 0, error: null };
  async function work() {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      try {
        await act(item);
      } catch (error) {
        outcome.failed += 1;
        outcome.error = error;
      }
    }
  }
  await Promise.all([work(), work(), work(), work()]);
  return outcome;
}

function nameIn(disposition: string | null): string | null {
  const encoded = /filename\*=utf-8''([^;]+)/i.exec(disposition ?? "")?.[1];
  if (encoded) return decodeURIComponent(encoded);
  return /filename="([^"]+)"/i.exec(disposition ?? "")?.[1] ?? null;
}
