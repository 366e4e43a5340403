import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";

interface PasswordFieldProps {
  label: string;
  autocomplete: "current-password" | "new-password";
  hint?: ComponentChildren;
  error?: string | null;
  value: string;
  onInput: (value: string) => void;
}

/** A password that can be looked at while it is typed. */
export function PasswordField({ label, autocomplete, hint, error, value, onInput }: PasswordFieldProps) {
  const [isShown, setShown] = useState(false);
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <div class="password-field">
        <input
          id={id}
          {...(isShown ? { type: "text" } : { type: "password", autocomplete })}
          aria-describedby={`${id}-note`}
          aria-invalid={error ? true : undefined}
          required
          maxLength={1024}
          value={value}
          onInput={(event) => onInput(event.currentTarget.value)}
        />
        <button
          type="button"
          class="text-button"
          aria-pressed={isShown}
          aria-label={`Show: ${label.toLowerCase()}`}
          onClick={() => setShown(!isShown)}
        >
          {isShown ? "Hide" : "Show"}
        </button>
      </div>
      <p id={`${id}-note`} class={error ? "field-note error" : "field-note"}>
        {error ?? hint}
      </p>
    </div>
  );
}
