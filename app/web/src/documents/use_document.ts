import { useEffect, useState } from "preact/hooks";
import { api, read } from "../api/client";
import { ApiError } from "../api/errors";
import type { DocumentOut } from "./actions";
import { changes, withProgress } from "./feed";

interface Found {
  document: DocumentOut | null;
  /** Why there is none; 404: it is gone. */
  error: unknown;
  reload: () => void;
  /** Takes over what the API has just answered. */
  replace: (document: DocumentOut) => void;
}

/** One document, always as it is now. */
export function useDocument(documentId: string): Found {
  const [document, replace] = useState<DocumentOut | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [tries, setTries] = useState(0);
  const change = changes.value;
  useEffect(() => {
    let isOver = false;
    read(api.GET("/api/v1/documents/{document_id}", { params: { path: { document_id: documentId } } })).then(
      (next) => {
        if (isOver) return;
        replace(next);
        setError(null);
      },
      (reason: unknown) => {
        if (isOver) return;
        setError(reason);
        // A lost network leaves what is known; a document that is gone is not shown any more.
        if (isGone(reason)) replace(null);
      },
    );
    return () => (isOver = true);
  }, [documentId, change, tries]);
  return {
    document: document && withProgress(document),
    error,
    reload: () => setTries((number) => number + 1),
    replace,
  };
}

/** No such document, or no id at all. */
export const isGone = (error: unknown): boolean =>
  error instanceof ApiError && (error.status === 404 || error.status === 422);
