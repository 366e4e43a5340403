import { useState } from "preact/hooks";
import { messageOf } from "../api/errors";
import { Button } from "../ui/button";
import { Field } from "../ui/field";
import { retryDocument } from "./actions";
import "./password_form.css";

/** Opens a protected document: the server keeps the password only until the file is read. */
export function PasswordForm({ documentId, isWrong }: { documentId: string; isWrong: boolean }) {
  const [password, setPassword] = useState("");
  const [error, setError] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);

  async function open(event: Event) {
    event.preventDefault();
    if (!password) return setError("Type the document's password.");
    setBusy(true);
    try {
      await retryDocument(documentId, password);
    } catch (reason) {
      setError(messageOf(reason));
      setBusy(false);
    }
  }

  return (
    <form class="unlock-form" onSubmit={open}>
      <Field
        label="Its password"
        type="password"
        autocomplete="off"
        maxLength={1024}
        value={password}
        error={error ?? (isWrong && !password ? "The last password did not open it." : null)}
        onInput={(event) => setPassword(event.currentTarget.value)}
      />
      <Button type="submit" isBusy={isBusy}>
        Open
      </Button>
    </form>
  );
}
