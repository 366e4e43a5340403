import type { ComponentChildren, InputHTMLAttributes, SelectHTMLAttributes, TextareaHTMLAttributes } from "preact";
import { useId, useState } from "preact/hooks";
import { Icon } from "./icon";
import "./field.css";

type InputProps = InputHTMLAttributes<HTMLInputElement>;
type TextProps = Pick<InputProps, "value" | "onInput" | "maxLength" | "required" | "autocomplete">;
interface Labels {
  label: string;
  hint?: ComponentChildren;
  error?: string | null;
}

/** A labelled line of input, with a hint and an error that screen readers connect to it. Children lie over its end. */
export function Field({ label, hint, error, children, ...others }: InputProps & Labels) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <div class="field-line">
        <input {...others} id={id} aria-describedby={`${id}-note`} aria-invalid={error ? true : undefined} />
        {children}
      </div>
      <p id={`${id}-note`} class={error ? "field-note error" : "field-note"}>
        {error ?? hint}
      </p>
    </div>
  );
}

/** One of several choices; children are its options. */
export function SelectField({ label, hint, error, ...others }: SelectHTMLAttributes<HTMLSelectElement> & Labels) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select {...others} id={id} aria-describedby={`${id}-note`} />
      <p id={`${id}-note`} class={error ? "field-note error" : "field-note"}>
        {error ?? hint}
      </p>
    </div>
  );
}

/** Several lines of text. */
export function TextAreaField({ label, hint, error, ...others }: TextareaHTMLAttributes<HTMLTextAreaElement> & Labels) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea {...others} id={id} aria-describedby={`${id}-note`} aria-invalid={error ? true : undefined} />
      <p id={`${id}-note`} class={error ? "field-note error" : "field-note"}>
        {error ?? hint}
      </p>
    </div>
  );
}

/** A password that can be looked at while it is typed. */
export function PasswordField(props: TextProps & Labels) {
  const [isShown, setShown] = useState(false);
  return (
    <Field maxLength={1024} {...props} {...(isShown ? { type: "text" } : { type: "password" })}>
      <button
        type="button"
        class="text-button"
        aria-pressed={isShown}
        aria-label={`Show: ${props.label.toLowerCase()}`}
        onClick={() => setShown(!isShown)}
      >
        {isShown ? "Hide" : "Show"}
      </button>
    </Field>
  );
}

/** What narrows a list while it is typed; `label` is its name and stands in it. */
export function SearchField({ label, ...others }: TextProps & { label: string }) {
  return (
    <label class="search-field">
      <Icon name="search" size={16} />
      <input {...others} type="search" dir="auto" aria-label={label} placeholder={label} />
    </label>
  );
}
