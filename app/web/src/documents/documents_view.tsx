import { useEffect } from "preact/hooks";
import { messageOf } from "../api/errors";
import { count } from "../text/format";
import { Button } from "../ui/button";
import { Banner, EmptyState, ErrorState, Loading } from "../ui/states";
import { BulkBar } from "./bulk_bar";
import { DocumentDialogs } from "./document_dialogs";
import { DocumentFilters } from "./document_filters";
import { DocumentsTable } from "./documents_table";
import {
  clearFilter,
  documents,
  error,
  hasMore,
  isFiltered,
  isLoading,
  loadFirst,
  loadMore,
  total,
  watchList,
} from "./list_state";
import { UploadButtons, UploadList } from "./uploads";
import "./documents_view.css";

export function DocumentsView() {
  useEffect(watchList, []);
  const isEmpty = documents.value?.length === 0 && !isFiltered.value && !isLoading.value;
  return (
    <div class="page documents">
      <header class="page-header">
        <h1>Documents</h1>
        {!isEmpty && <UploadButtons />}
      </header>
      <UploadList untilStored />
      {isEmpty ? <NoDocuments /> : <Documents />}
      <DocumentDialogs />
    </div>
  );
}

function NoDocuments() {
  return (
    <EmptyState icon="document" title="Add your first documents">
      <p>
        Drop PDFs or whole folders anywhere on this page. Word, PowerPoint, Excel, pictures, e-mails and text work too.
      </p>
      <UploadButtons />
    </EmptyState>
  );
}

function Documents() {
  if (documents.value === null) {
    return error.value ? (
      <ErrorState error={error.value} onRetry={() => void loadFirst()} />
    ) : (
      <Loading label="Loading documents" />
    );
  }
  return (
    <>
      <DocumentFilters />
      {error.value !== null && <Failure />}
      <BulkBar />
      {documents.value.length > 0 ? <DocumentsTable documents={documents.value} /> : <NoMatch />}
      <Footer />
    </>
  );
}

/** What was loaded before is still there. */
function Failure() {
  return (
    <Banner kind="error">
      {messageOf(error.value)}{" "}
      <button type="button" class="link" onClick={() => void loadFirst()}>
        Load the list again
      </button>
    </Banner>
  );
}

function NoMatch() {
  if (isLoading.value) return <Loading label="Loading documents" />;
  return (
    <EmptyState icon="search" title="No document matches">
      <Button onClick={clearFilter}>Show all documents</Button>
    </EmptyState>
  );
}

function Footer() {
  const shown = documents.value?.length ?? 0;
  return (
    <footer class="documents-footer">
      <p role="status">
        {shown > 0 && (hasMore.value ? `${shown} of ${count(total.value, "document")}` : count(shown, "document"))}
      </p>
      {hasMore.value && (
        <Button isBusy={isLoading.value} onClick={() => void loadMore()}>
          Load more
        </Button>
      )}
    </footer>
  );
}
