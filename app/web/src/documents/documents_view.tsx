import { useEffect, useState } from "preact/hooks";
import { messageOf } from "../api/errors";
import { useTitle } from "../router";
import { count } from "../text/format";
import { Button } from "../ui/button";
import { Banner, EmptyState, ErrorState, Loading } from "../ui/states";
import { tell, tellError } from "../ui/toast";
import { type DocumentOut, forEach, retryDocument } from "./actions";
import { DocumentDialogs, openDialog } from "./document_dialogs";
import { DocumentFilters } from "./document_filters";
import { DocumentsTable } from "./documents_table";
import {
  chosen,
  clearFilter,
  documents,
  error,
  hasMore,
  isFiltered,
  isLoading,
  loadFirst,
  loadMore,
  select,
  total,
  watchList,
} from "./list_state";
import { isLocked } from "./status";
import { UploadButtons, UploadList } from "./uploads";
import "./documents_view.css";

export function DocumentsView() {
  useEffect(watchList, []);
  useTitle("Documents");
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
      <button type="button" class="text-button" onClick={() => void loadFirst()}>
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

/** What can be done with the selected documents at once. */
function BulkBar() {
  const [isBusy, setBusy] = useState(false);
  const documents = chosen.value;
  if (documents.length === 0) return null;
  const failed = documents.filter((each) => each.status === "failed" && !isLocked(each));

  async function retry() {
    setBusy(true);
    await retryAll(failed);
    setBusy(false);
  }

  return (
    <section class="bulk-bar" aria-label="Selected documents">
      <p role="status">{count(documents.length, "document")} selected</p>
      <Button icon="tag" onClick={() => openDialog({ kind: "add-tags", documents })}>
        Add tags
      </Button>
      {failed.length > 0 && (
        <Button icon="retry" isBusy={isBusy} onClick={retry}>
          Retry failed
        </Button>
      )}
      <Button kind="danger" icon="trash" onClick={() => openDialog({ kind: "delete", documents })}>
        Delete
      </Button>
      <Button
        kind="quiet"
        onClick={() =>
          select(
            documents.map(({ id }) => id),
            false,
          )
        }
      >
        Clear
      </Button>
    </section>
  );
}

async function retryAll(documents: readonly DocumentOut[]): Promise<void> {
  const { failed, error } = await forEach(documents, ({ id }) => retryDocument(id));
  if (failed < documents.length) tell(`${count(documents.length - failed, "document")} queued again.`);
  if (failed > 0) tellError(error);
}
