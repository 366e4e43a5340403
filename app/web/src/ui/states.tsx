/** What a view shows when it has nothing yet, waits, or failed. */
import type { ComponentChildren } from "preact";
import { messageOf } from "../api/errors";
import { Button, Spinner } from "./button";
import { Icon, type IconName } from "./icon";
import "./states.css";

interface EmptyStateProps {
  icon: IconName;
  title: string;
  /** Nothing else is on the page: its title is the page's own. */
  isPage?: boolean;
  children?: ComponentChildren;
}

export function EmptyState({ icon, title, isPage = false, children }: EmptyStateProps) {
  const Heading = isPage ? "h1" : "h2";
  return (
    <div class="state">
      <Icon name={icon} size={36} />
      <Heading>{title}</Heading>
      {children}
    </div>
  );
}

export function ErrorState({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  return (
    <div class="state" role="alert">
      <Icon name="warning" size={36} />
      <p>{messageOf(error)}</p>
      {onRetry && (
        <Button icon="retry" onClick={onRetry}>
          Try again
        </Button>
      )}
    </div>
  );
}

/** Below a form: why it was not taken. Always there, so that it is read out. */
export function FormError({ error, children }: { error: unknown; children?: ComponentChildren }) {
  return (
    <p class="form-error" role="alert">
      {error ? messageOf(error) : ""}
      {children}
    </p>
  );
}

export function Loading({ label = "Loading" }: { label?: string }) {
  return (
    <div class="state" role="status">
      <Spinner />
      <span class="visually-hidden">{label}</span>
    </div>
  );
}

/** `value` is 0..1; undefined: it is under way, and nobody knows how far. */
export function ProgressBar({ value, label }: { value: number | undefined; label: string }) {
  return <progress class="progress" value={value} max={1} aria-label={label} />;
}

export function Banner({
  kind = "info",
  children,
}: {
  kind?: "info" | "warning" | "error";
  children: ComponentChildren;
}) {
  return (
    <div class={`banner ${kind}`} role={kind === "error" ? "alert" : "note"}>
      <Icon name={kind === "info" ? "info" : "warning"} />
      <div>{children}</div>
    </div>
  );
}
