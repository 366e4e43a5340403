import { useState } from "preact/hooks";
import { ApiError } from "../api/errors";
import { register, signIn } from "../api/session";
import { useTitle } from "../router";
import { Button } from "../ui/button";
import { Field, PasswordField } from "../ui/field";
import { FormError } from "../ui/states";
import { useAction } from "../ui/use_action";
import "./sign_in_view.css";

/** Shown at every address while nobody is signed in; the address stays, and is opened then. */
export function SignInView() {
  const [isNew, setNew] = useState(false);
  useTitle(isNew ? "Create your account" : "Sign in");
  return (
    <div class="sign-in">
      <header class="sign-in-claim">
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
      </header>
      <main class="sign-in-card">
        <h1>{isNew ? "Create your account" : "Sign in"}</h1>
        <Credentials key={String(isNew)} isNew={isNew} />
        <OtherWay isNew={isNew} onSwitch={() => setNew(!isNew)} />
      </main>
    </div>
  );
}

interface CredentialsProps {
  isNew: boolean;
  /** It can't be another one. */
  fixedEmail?: string;
  /** When somebody is about to be signed in. */
  onEnter?: () => void;
}

export function Credentials({ isNew, fixedEmail, onEnter }: CredentialsProps) {
  const [email, setEmail] = useState(fixedEmail ?? "");
  const [password, setPassword] = useState("");
  const [name, setName] = useState("");
  const enter = () => {
    onEnter?.();
    return isNew ? register(email, password, name) : signIn(email, password);
  };
  const { isBusy, error, run } = useAction(enter);
  const isTaken = error instanceof ApiError && error.status === 409;
  return (
    <form class="sign-in-form" onSubmit={run}>
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
        readOnly={fixedEmail !== undefined}
        maxLength={320}
        value={email}
        onInput={(event) => setEmail(event.currentTarget.value)}
      />
      <PasswordField
        label="Password"
        autocomplete={isNew ? "new-password" : "current-password"}
        hint={isNew ? "At least 8 characters. A sentence is best." : undefined}
        required
        value={password}
        onInput={(event) => setPassword(event.currentTarget.value)}
      />
      <FormError error={error}>{isTaken && " Sign in instead."}</FormError>
      <Button kind="primary" type="submit" isBusy={isBusy}>
        {isNew ? "Create account" : "Sign in"}
      </Button>
    </form>
  );
}

/** From making an account to signing in, and back. */
export function OtherWay({ isNew, onSwitch }: { isNew: boolean; onSwitch: () => void }) {
  return (
    <p class="sign-in-other">
      {isNew ? "You have an account?" : "New here?"}{" "}
      <button type="button" class="text-button" onClick={onSwitch}>
        {isNew ? "Sign in" : "Create an account"}
      </button>
    </p>
  );
}
