import { useState } from "preact/hooks";
import { messageOf } from "../api/errors";
import { Button } from "../ui/button";
import { Field } from "../ui/field";
import { useAction } from "../ui/use_action";
import { retryDocument } from "./actions";
import "./password_form.css";

/** Opens a protected document: the server keeps the password only until the file is read. */
export function PasswordForm({ documentId, isWrong }: { documentId: string; isWrong: boolean }) {
  const [password, setPassword] = useState("");
  const { isBusy, error, run } = useAction(() => retryDocument(documentId, password));
  const problem = error ? messageOf(error) : isWrong && !password ? "The last password did not open it." : null;
  return (
    <form class="unlock-form" onSubmit={run}>
      <Field
        label="Password of the document"
        type="password"
        maxLength={1024}
        autocomplete="off"
        required
        value={password}
        error={problem}
        onInput={(event) => setPassword(event.currentTarget.value)}
      />
      <Button type="submit" isBusy={isBusy}>
        Open
      </Button>
    </form>
  );
}
