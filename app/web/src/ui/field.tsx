import type { ComponentChildren, InputHTMLAttributes } from "preact";
import { useId } from "preact/hooks";
import "./field.css";

type FieldProps = InputHTMLAttributes<HTMLInputElement> & {
  label: string;
  hint?: ComponentChildren;
  error?: string | null;
};

/** A labelled line of input, with a hint and an error that screen readers connect to it. */
export function Field({ label, hint, error, ...others }: FieldProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input {...others} id={id} aria-describedby={`${id}-note`} aria-invalid={error ? true : undefined} />
      <p id={`${id}-note`} class={error ? "field-note error" : "field-note"}>
        {error ?? hint}
      </p>
    </div>
  );
}
