import { useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { changePassword, signOut } from "../api/session";
import { useLoaded } from "../api/use_loaded";
import { count, formatAgo, formatMoment } from "../text/format";
import { Button } from "../ui/button";
import { PasswordField } from "../ui/field";
import { ErrorState, FormError, Loading } from "../ui/states";
import { tell, tellError } from "../ui/toast";
import { useAction } from "../ui/use_action";

type SignIn = Schemas["SignInOut"];

export function SecuritySection() {
  const { data, error, reload } = useLoaded(() => read(api.GET("/api/v1/auth/sign-ins")));
  return (
    <>
      <section class="card" aria-labelledby="sign-ins-title">
        <h2 id="sign-ins-title">Where you are signed in</h2>
        {error ? (
          <ErrorState error={error} onRetry={reload} />
        ) : data ? (
          <SignIns items={data.items} onChange={reload} />
        ) : (
          <Loading />
        )}
      </section>
      <section class="card" aria-labelledby="password-title">
        <h2 id="password-title">Change your password</h2>
        <PasswordForm onChanged={reload} />
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
  const { isBusy, error, run } = useAction(async () => {
    await changePassword(current, next);
    setCurrent("");
    setNext("");
    tell("Your password is changed. Every other sign-in has ended.");
    onChanged();
  });
  return (
    <form class="password-form" onSubmit={run}>
      <PasswordField
        label="Present password"
        autocomplete="current-password"
        required
        value={current}
        onInput={(event) => setCurrent(event.currentTarget.value)}
      />
      <PasswordField
        label="New password"
        autocomplete="new-password"
        hint="At least 8 characters. Ends every other sign-in."
        required
        value={next}
        onInput={(event) => setNext(event.currentTarget.value)}
      />
      <FormError error={error} />
      <Button type="submit" isBusy={isBusy} disabled={!current || !next}>
        Change password
      </Button>
    </form>
  );
}
