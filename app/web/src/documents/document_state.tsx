import { Button } from "../ui/button";
import { tellError } from "../ui/toast";
import { cancelDocument, type DocumentOut, retryDocument } from "./actions";
import { isActive } from "./feed";
import { PasswordForm } from "./password_form";
import { isLocked, Status } from "./status";

interface Props {
  document: DocumentOut;
  onNewVersion: () => void;
}

/** How far it is, why it failed, and what to do. Nothing when all is well. */
export function DocumentState({ document, onNewVersion }: Props) {
  const { id, status, error_message, error_code, ready_version } = document;
  if (status === "ready") return null;
  return (
    <section class="card document-state" aria-label="State">
      <div class="document-state-words">
        <Status document={document} />
        {error_message && <p>{error_message}</p>}
        {ready_version > 0 && <p class="status-note">The version before it is still searched, shown and downloaded.</p>}
      </div>
      {isLocked(document) && (
        <div class="document-unlock">
          <PasswordForm documentId={id} isWrong={error_code === "wrong_password"} />
        </div>
      )}
      {status === "failed" && !isLocked(document) && <Remedy document={document} onNewVersion={onNewVersion} />}
      {isActive(document) && (
        <Button icon="close" onClick={() => cancelDocument(id).catch(tellError)}>
          Cancel
        </Button>
      )}
    </section>
  );
}

/** The same file once more where that can help, such as after the operator has seen to a key; else another file. */
function Remedy({ document: { id, retryable, error_code }, onNewVersion }: Props) {
  if (retryable || error_code?.startsWith("embedding_")) {
    return (
      <Button icon="retry" onClick={() => retryDocument(id).catch(tellError)}>
        Try again
      </Button>
    );
  }
  return (
    <Button icon="upload" onClick={onNewVersion}>
      Upload a new version
    </Button>
  );
}
