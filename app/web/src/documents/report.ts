/** How the pages of a document were read. */
import { useEffect, useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";

export type Report = Schemas["ReportOut"];
export type ReportPage = Schemas["PageReportOut"];
export type Source = ReportPage["source"];

/** From the surest to none at all. */
export const SOURCES: readonly Source[] = ["text_layer", "form_fields", "ocr", "none"];

export const SOURCE_WORDS: Record<Source, string> = {
  text_layer: "Text of the file",
  form_fields: "Form fields",
  ocr: "Recognized text",
  none: "No text",
};

/** Also told apart by height, for who doesn't see the colors. In percent. */
export const HEIGHTS: Record<Source, number> = { text_layer: 100, form_fields: 85, ocr: 65, none: 30 };

/** A page as the API has it: its number, and its printed name where that differs. */
export function nameOf({ number, label }: ReportPage): string {
  return label ? `Page ${label} (number ${number})` : `Page ${number}`;
}

interface Loaded {
  report: Report | null;
  /** As far as they have come: those of a long document come in parts. */
  pages: readonly ReportPage[];
  error: unknown;
  reload: () => void;
}

/** How a document was read; asked for again when `state` changes. */
export function useReport(documentId: string, state: string): Loaded {
  const [report, setReport] = useState<Report | null>(null);
  const [pages, setPages] = useState<readonly ReportPage[]>([]);
  const [error, setError] = useState<unknown>(null);
  const [tries, setTries] = useState(0);
  useEffect(() => {
    let isOver = false;
    async function load() {
      const all: ReportPage[] = [];
      for (let after: number | null = 0; after !== null && !isOver; ) {
        const query: { after: number } = { after };
        const part: Report = await read(
          api.GET("/api/v1/documents/{document_id}/report", { params: { path: { document_id: documentId }, query } }),
        );
        if (isOver) return;
        all.push(...part.pages);
        setReport(part);
        setPages([...all]);
        after = part.next_after;
      }
    }
    setError(null);
    load().catch((reason: unknown) => !isOver && setError(reason));
    return () => (isOver = true);
  }, [documentId, state, tries]);
  return { report, pages, error, reload: () => setTries((number) => number + 1) };
}
