/** What the viewer needs of a document before it shows a page. */
import { api, read, type Schemas } from "../api/client";
import { ApiError } from "../api/errors";
import { findPdf, forgetPdf } from "./pdf_cache";
import { loadPdfjs, type PdfFile } from "./pdf_file";

/** How pages are shown. Each next way shows less, and works for more. */
export type Way = "pdf" | "image" | "text";

export interface OpenDocument {
  id: string;
  filename: string;
  version: number;
  pageCount: number;
  way: Way;
  /** Null unless the way is `pdf`. */
  pdf: PdfFile | null;
}

const PDF = "application/pdf";
const WAYS: readonly Way[] = ["pdf", "image", "text"];

/** The way that shows less of the two. */
export const lesser = (one: Way, other: Way): Way => (WAYS.indexOf(one) > WAYS.indexOf(other) ? one : other);

/** Throws ApiError, with status 404 when there is no such document (any more). */
export async function openDocument(documentId: string, filename: string): Promise<OpenDocument> {
  // Its bytes are on the way while the server looks the document up.
  if (filename.toLowerCase().endsWith(".pdf")) loadPdfjs().catch(() => undefined);
  const found = await read(
    api.GET("/api/v1/documents/{document_id}", { params: { path: { document_id: documentId } } }),
  );
  const version = found.ready_version || found.version;
  const pdf = found.media_type === PDF ? await tryPdf(documentId, version) : null;
  const pageCount = pdf?.document.numPages ?? found.page_count ?? 0;
  return { id: documentId, filename: found.filename, version, pageCount, way: pdf ? "pdf" : wayOf(found), pdf };
}

/** The same document without pdf.js, because that hangs in it. */
export function withoutPdf(opened: OpenDocument): OpenDocument {
  forgetPdf(opened.id, opened.version);
  return { ...opened, way: lesser(opened.way, "image"), pdf: null };
}

function wayOf({ media_type }: Schemas["DocumentOut"]): Way {
  return media_type === PDF || media_type.startsWith("image/") ? "image" : "text";
}

/** Null for what pdf.js can't read (damaged, encrypted) and where it can't be loaded. */
async function tryPdf(documentId: string, version: number): Promise<PdfFile | null> {
  try {
    return await findPdf(documentId, version);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    return null;
  }
}
