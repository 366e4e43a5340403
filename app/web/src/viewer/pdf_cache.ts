/** The PDFs that were looked at last stay open: a second citation shows at once. */
import { onOtherUser } from "../api/session";
import { openPdf, type PdfFile } from "./pdf_file";

const KEPT = 3;
/** By document and version; the one that was used last is the last. */
const files = new Map<string, Promise<PdfFile>>();

onOtherUser(() => [...files.keys()].forEach(forget));

export function findPdf(documentId: string, version: number): Promise<PdfFile> {
  const key = keyOf(documentId, version);
  const file = files.get(key) ?? open(key, documentId);
  files.delete(key);
  files.set(key, file);
  [...files.keys()].slice(0, -KEPT).forEach(forget);
  return file;
}

function open(key: string, documentId: string): Promise<PdfFile> {
  const file = openPdf(documentId, drop);
  file.catch(drop);
  return file;

  function drop() {
    if (files.get(key) === file) files.delete(key);
  }
}

/** Closes what went wrong, so that the next look opens it anew. */
export function forgetPdf(documentId: string, version: number): void {
  forget(keyOf(documentId, version));
}

const keyOf = (documentId: string, version: number): string => `${documentId} ${version}`;

function forget(key: string): void {
  files.get(key)?.then(
    (file) => file.close(),
    () => undefined,
  );
  files.delete(key);
}
