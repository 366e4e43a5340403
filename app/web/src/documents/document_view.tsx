import { useEffect, useState } from "preact/hooks";
import { api, read } from "../api/client";
import { isGone } from "../api/errors";
import { useLoaded } from "../api/use_loaded";
import { Link, navigate, useTitle } from "../router";
import { EmptyState, ErrorState, Loading } from "../ui/states";
import type { DocumentOut } from "./actions";
import { DeleteDialog } from "./delete_dialog";
import { DocumentFacts } from "./document_facts";
import { DocumentHeader } from "./document_header";
import { DocumentState } from "./document_state";
import { changes, learnKnown, withProgress } from "./feed";
import { NewVersion, useNewVersion } from "./new_version";
import { PageReport } from "./page_report";
import { VersionsTable } from "./versions_table";
import "./documents_view.css";
import "./document_view.css";

export function DocumentView({ documentId }: { documentId: string }) {
  const { document, error, reload, replace } = useDocument(documentId);
  useTitle(document?.title ?? document?.filename ?? "Document");
  const [doomed, setDoomed] = useState<DocumentOut | null>(null);
  const [isDeleted, setDeleted] = useState(false);

  function closeDialog() {
    setDoomed(null);
    if (isDeleted) navigate("/documents", { replace: true });
  }

  return (
    <div class="page document">
      <nav class="document-path" aria-label="You are here">
        <Link href="/documents">Documents</Link>
      </nav>
      {document && !isDeleted ? (
        <OneDocument document={document} onChanged={replace} onDelete={() => setDoomed(document)} />
      ) : (
        !doomed && <NoDocument error={error} onRetry={reload} />
      )}
      {doomed && <DeleteDialog documents={[doomed]} onClose={closeDialog} onDeleted={() => setDeleted(true)} />}
    </div>
  );
}

/** One document, always as it is now. Null: not known yet, or gone. */
function useDocument(documentId: string) {
  const params = { path: { document_id: documentId } };
  const load = () => learnKnown(read(api.GET("/api/v1/documents/{document_id}", { params })), (found) => [found]);
  const { data, error, reload } = useLoaded(load, [documentId, changes.value]);
  const [answered, replace] = useState(data);
  useEffect(() => replace(data), [data]);
  const document = answered && !isGone(error) ? withProgress(answered) : null;
  return { document, error, reload, replace };
}

interface Props {
  document: DocumentOut;
  onChanged: (document: DocumentOut) => void;
  onDelete: () => void;
}

function OneDocument({ document, onChanged, onDelete }: Props) {
  const { id, ready_version, version, status } = document;
  const replacing = useNewVersion(document);
  return (
    <>
      <DocumentHeader document={document} onDelete={onDelete} onNewVersion={replacing.choose} />
      <NewVersion replacing={replacing} />
      <DocumentState document={document} onNewVersion={replacing.choose} />
      <DocumentFacts document={document} onChanged={onChanged} />
      <PageReport document={document} key={`report-${ready_version}`} />
      <VersionsTable documentId={id} key={`${version}-${status}`} />
    </>
  );
}

function NoDocument({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  if (!error) return <Loading label="Loading the document" />;
  if (!isGone(error)) return <ErrorState error={error} onRetry={onRetry} />;
  return (
    <EmptyState icon="document" title="This document is not here" isPage>
      <p>It was deleted, or the address is wrong.</p>
      <Link href="/documents">See all documents</Link>
    </EmptyState>
  );
}
