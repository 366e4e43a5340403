import { Link } from "../router";
import { formatBytes, formatPercent } from "../text/format";
import { Button, IconButton } from "../ui/button";
import { ProgressBar } from "../ui/states";
import { tellError } from "../ui/toast";
import { cancelDocument, retryDocument } from "./actions";
import { type DocumentProgress, isActive } from "./feed";
import { PasswordForm } from "./password_form";
import { Badge, isLocked, Status } from "./status";
import { removeUpload, retryUpload, type Upload } from "./upload_queue";
import { dismiss, type Work } from "./work";

/** One file: its bytes, then what becomes of the document. */
export function UploadRow({ work }: { work: Work }) {
  const { upload, document, filename } = work;
  const id = document?.id ?? upload?.documentId;
  return (
    <li class="upload-row">
      <div class="upload-name">
        {id ? (
          <Link href={`/documents/${id}`} class="clip" dir="auto" title={filename}>
            {filename}
          </Link>
        ) : (
          <span class="clip" dir="auto" title={filename}>
            {filename}
          </span>
        )}
        {upload && <span class="status-note">{formatBytes(upload.sizeBytes)}</span>}
      </div>
      <div class="upload-state">
        {document ? <Stored document={document} upload={upload} /> : upload && <Sending upload={upload} />}
      </div>
      <Actions work={work} />
    </li>
  );
}

function Sending({ upload }: { upload: Upload }) {
  const { phase, filename, sent, error, isDuplicate } = upload;
  if (phase === "waiting") return <Badge kind="queued">Waiting</Badge>;
  if (phase === "failed") {
    return (
      <div class="status-block">
        <Badge kind="failed">Not uploaded</Badge>
        <p class="status-note">{error}</p>
      </div>
    );
  }
  if (phase === "sent")
    return isDuplicate ? <Badge kind="ready">Already there</Badge> : <Badge kind="queued">Uploaded</Badge>;
  return (
    <div class="status-block">
      <Badge kind="processing">{sent < 1 ? `Uploading, ${formatPercent(sent)}` : "Being stored"}</Badge>
      <ProgressBar value={sent < 1 ? sent : undefined} label={`Upload of ${filename}`} />
    </div>
  );
}

function Stored({ document, upload }: { document: DocumentProgress; upload: Upload | null }) {
  if (document.status === "ready" && upload?.isDuplicate) return <Badge kind="ready">Already there</Badge>;
  if (document.status !== "failed") return <Status document={document} />;
  return (
    <div class="status-block">
      <Status document={document} />
      <p class="status-note">{document.error_message}</p>
      {isLocked(document) && (
        <PasswordForm documentId={document.id} isWrong={document.error_code === "wrong_password"} />
      )}
    </div>
  );
}

function Actions({ work }: { work: Work }) {
  const { upload, document, filename } = work;
  const canRetryUpload = upload?.phase === "failed" && upload.canRetry;
  const canRetryDocument = document?.status === "failed" && document.retryable;
  return (
    <div class="upload-actions">
      {canRetryUpload && (
        <Button kind="quiet" icon="retry" onClick={() => retryUpload(upload.id)}>
          Try again
        </Button>
      )}
      {canRetryDocument && (
        <Button kind="quiet" icon="retry" onClick={() => retryDocument(document.id).catch(tellError)}>
          Try again
        </Button>
      )}
      <CloseButton work={work} filename={filename} />
    </div>
  );
}

function CloseButton({ work, filename }: { work: Work; filename: string }) {
  const { upload, document } = work;
  if (document && isActive(document)) {
    const cancel = () => cancelDocument(document.id).then(() => dismiss(work), tellError);
    return <IconButton icon="close" label={`Cancel ${filename}`} onClick={cancel} />;
  }
  if (upload && (upload.phase === "waiting" || upload.phase === "sending")) {
    return (
      <IconButton icon="close" label={`Cancel the upload of ${filename}`} onClick={() => removeUpload(upload.id)} />
    );
  }
  return <IconButton icon="close" label={`Dismiss ${filename}`} onClick={() => dismiss(work)} />;
}
