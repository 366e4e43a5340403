import type { ButtonHTMLAttributes, ComponentChildren } from "preact";
import { Icon, type IconName } from "./icon";
import "./button.css";

type ButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & {
  kind?: "primary" | "plain" | "danger" | "quiet";
  icon?: IconName;
  isBusy?: boolean;
  children: ComponentChildren;
};

export function Button({
  kind = "plain",
  icon,
  isBusy = false,
  children,
  type = "button",
  disabled,
  ...others
}: ButtonProps) {
  return (
    <button {...others} type={type} class={`button ${kind}`} disabled={disabled || isBusy} aria-busy={isBusy}>
      {isBusy ? <Spinner /> : icon && <Icon name={icon} />}
      <span>{children}</span>
    </button>
  );
}

type IconButtonProps = ButtonHTMLAttributes<HTMLButtonElement> & { icon: IconName; label: string; isOn?: boolean };

/** A button that is only an icon; `label` is its name for everybody. */
export function IconButton({ icon, label, isOn, type = "button", ...others }: IconButtonProps) {
  return (
    <button {...others} type={type} class="icon-button" aria-label={label} title={label} aria-pressed={isOn}>
      <Icon name={icon} />
    </button>
  );
}

export function Spinner() {
  return <span class="spinner" aria-hidden="true" />;
}
