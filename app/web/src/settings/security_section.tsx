import { useEffect, useState } from "preact/hooks";
import { PasswordField } from "../account/password_field";
import { api, read, type Schemas } from "../api/client";
import { messageOf } from "../api/errors";
import { changePassword, signOut } from "../api/session";
import { count, formatAgo, formatMoment } from "../text/format";
import { Button } from "../ui/button";
import { ErrorState, Loading } from "../ui/states";
import { tell, tellError } from "../ui/toast";

type SignIn = Schemas["SignInOut"];

export function SecuritySection() {
  const [signIns, setSignIns] = useState<SignIn[] | null>(null);
  const [error, setError] = useState<unknown>(null);
  async function load() {
    try {
      const list = await read(api.GET("/api/v1/auth/sign-ins"));
      setSignIns(list.items);
      setError(null);
    } catch (reason) {
      setError(reason);
    }
  }
  useEffect(() => void load(), []);
  return (
    <>
      <section class="card" aria-labelledby="sign-ins-title">
        <h2 id="sign-ins-title">Where you are signed in</h2>
        {error ? (
          <ErrorState error={error} onRetry={() => void load()} />
        ) : signIns ? (
          <SignIns items={signIns} onChange={() => void load()} />
        ) : (
          <Loading />
        )}
      </section>
      <section class="card" aria-labelledby="password-title">
        <h2 id="password-title">Change your password</h2>
        <PasswordForm onChanged={() => void load()} />
      </section>
    </>
  );
}

function SignIns({ items, onChange }: { items: SignIn[]; onChange: () => void }) {
  async function end(signIn: SignIn) {
    try {
      if (signIn.is_current) return await signOut();
      await read(api.DELETE("/api/v1/auth/sign-ins/{sign_in_id}", { params: { path: { sign_in_id: signIn.id } } }));
      tell("That sign-in has ended.");
    } catch (error) {
      tellError(error);
    }
    onChange();
  }
  async function endOthers() {
    try {
      const { ended } = await read(api.DELETE("/api/v1/auth/sign-ins"));
      tell(`${count(ended, "other sign-in has", "other sign-ins have")} ended.`);
    } catch (error) {
      tellError(error);
    }
    onChange();
  }
  return (
    <>
      <ul class="sign-ins">
        {items.map((each) => (
          <li key={each.id}>
            <div>
              <span class="clip" dir="auto" title={each.client}>
                {each.client || "Unknown program"}
              </span>
              {each.is_current && <span class="badge">This one</span>}
              <p class="faint" title={`Signed in ${formatMoment(each.created_at)}`}>
                Used {formatAgo(each.last_used_at)}
              </p>
            </div>
            <Button aria-label={`Sign out: ${each.client || "unknown program"}`} onClick={() => void end(each)}>
              Sign out
            </Button>
          </li>
        ))}
      </ul>
      {items.length > 1 && (
        <Button kind="danger" onClick={() => void endOthers()}>
          Sign out everywhere else
        </Button>
      )}
    </>
  );
}

function PasswordForm({ onChanged }: { onChanged: () => void }) {
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [isBusy, setBusy] = useState(false);
  async function save(event: Event) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await changePassword(current, next);
      setCurrent("");
      setNext("");
      tell("Your password is changed. Every other sign-in has ended.");
      onChanged();
    } catch (reason) {
      setError(reason);
    }
    setBusy(false);
  }
  return (
    <form class="password-form" onSubmit={(event) => void save(event)}>
      <PasswordField label="Present password" autocomplete="current-password" value={current} onInput={setCurrent} />
      <PasswordField
        label="New password"
        autocomplete="new-password"
        hint="At least 8 characters. Ends every other sign-in."
        value={next}
        onInput={setNext}
      />
      <p class="form-error" role="alert">
        {error ? messageOf(error) : ""}
      </p>
      <Button type="submit" isBusy={isBusy} disabled={!current || !next}>
        Change password
      </Button>
    </form>
  );
}
