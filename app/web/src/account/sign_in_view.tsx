import { useState } from "preact/hooks";
import { ApiError, messageOf } from "../api/errors";
import { register, signIn } from "../api/session";
import { Button } from "../ui/button";
import { Field } from "../ui/field";
import { PasswordField } from "./password_field";
import "./sign_in_view.css";

/** Shown at every address while nobody is signed in; the address stays, and is opened then. */
export function SignInView() {
  const [isNew, setNew] = useState(false);
  return (
    <div class="sign-in">
      <section class="sign-in-claim">
        <p class="brand">
          Footnote<sup aria-hidden="true">1</sup>
        </p>
        <p class="sign-in-slogan">Ask your documents. Check the answer on the page.</p>
        <figure class="sign-in-sample" aria-hidden="true">
          <blockquote>
            Either side may end the lease with three months’ notice.<sup>1</sup>
          </blockquote>
          <figcaption>
            <sup>1</sup> “This lease may be terminated by either party upon three months’ written notice.”{" "}
            <span>lease.pdf, page 12</span>
          </figcaption>
        </figure>
      </section>
      <main class="sign-in-card">
        <h1>{isNew ? "Create your account" : "Sign in"}</h1>
        <Credentials key={String(isNew)} isNew={isNew} />
        <p class="sign-in-other">
          {isNew ? "You have an account?" : "New here?"}{" "}
          <button type="button" class="text-button" onClick={() => setNew(!isNew)}>
            {isNew ? "Sign in" : "Create an account"}
          </button>
        </p>
      </main>
    </div>
  );
}

function Credentials({ isNew }: { isNew: boolean }) {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [name, setName] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [isBusy, setBusy] = useState(false);

  async function submit(event: Event) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await (isNew ? register(email, password, name) : signIn(email, password));
    } catch (reason) {
      setError(reason);
      setBusy(false);
    }
  }

  const isTaken = error instanceof ApiError && error.status === 409;
  return (
    <form class="sign-in-form" onSubmit={(event) => void submit(event)}>
      {isNew && (
        <Field
          label="Name"
          hint="As others will see it. You may leave it out."
          autocomplete="name"
          dir="auto"
          maxLength={100}
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
      )}
      <Field
        label="E-mail address"
        type="email"
        autocomplete="email"
        required
        maxLength={320}
        value={email}
        onInput={(event) => setEmail(event.currentTarget.value)}
      />
      <PasswordField
        label="Password"
        autocomplete={isNew ? "new-password" : "current-password"}
        hint={isNew ? "At least 8 characters. A sentence is best." : undefined}
        value={password}
        onInput={setPassword}
      />
      <p class="sign-in-error" role="alert">
        {error ? messageOf(error) : ""}
        {isTaken && " Sign in instead."}
      </p>
      <Button kind="primary" type="submit" isBusy={isBusy}>
        {isNew ? "Create account" : "Sign in"}
      </Button>
    </form>
  );
}
