import type { ComponentChildren, TargetedKeyboardEvent } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { IconButton } from "./button";
import { Icon, type IconName } from "./icon";
import "./menu.css";

export interface MenuItem {
  /** Where several may have the same label. */
  key?: string;
  label: string;
  icon?: IconName;
  isDanger?: boolean;
  isDisabled?: boolean;
  /** One of several choices, of which one is on. */
  isOn?: boolean;
  onSelect: () => void;
}

interface MenuProps {
  label: string;
  items: MenuItem[];
  /** Of the button that opens it. */
  icon?: IconName;
  /** What opens it instead, and names it. */
  opener?: ComponentChildren;
  opensUp?: boolean;
  onOpen?: () => void;
}

/** A button with a menu: arrows move, Escape closes, letters are left to the page. */
export function Menu({ label, items, icon = "more", opener, opensUp = false, onOpen }: MenuProps) {
  const [isOpen, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const id = useId();

  useEffect(() => {
    if (!isOpen) return;
    entries()[0]?.focus();
    const close = (event: Event) => !root.current?.contains(event.target as Node) && setOpen(false);
    document.addEventListener("pointerdown", close);
    return () => document.removeEventListener("pointerdown", close);
  }, [isOpen]);

  function toggle() {
    if (!isOpen) onOpen?.();
    setOpen(!isOpen);
  }

  function entries(): HTMLButtonElement[] {
    return [...(root.current?.querySelectorAll<HTMLButtonElement>('[role^="menuitem"]:not(:disabled)') ?? [])];
  }

  function move(event: TargetedKeyboardEvent<HTMLDivElement>) {
    if (!isOpen) return;
    const all = entries();
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    const moves: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
    const next = moves[event.key];
    if (next !== undefined) all.at(next % all.length)?.focus();
    else if (event.key === "Escape") dismiss();
    else if (event.key === "Tab") return setOpen(false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function dismiss() {
    setOpen(false);
    root.current?.querySelector<HTMLButtonElement>("[aria-haspopup]")?.focus();
  }

  const state = { "aria-haspopup": "menu", "aria-expanded": isOpen, "aria-controls": id } as const;
  return (
    <div class={opensUp ? "menu up" : "menu"} ref={root} onKeyDown={move}>
      {opener ? (
        <button type="button" class="menu-opener" {...state} onClick={toggle}>
          {opener}
        </button>
      ) : (
        <IconButton icon={icon} label={label} {...state} onClick={toggle} />
      )}
      <div id={id} role="menu" aria-label={label} hidden={!isOpen}>
        {items.map((item) => (
          <button
            key={item.key ?? item.label}
            type="button"
            role={item.isOn === undefined ? "menuitem" : "menuitemradio"}
            aria-checked={item.isOn}
            tabIndex={-1}
            class={item.isDanger ? "danger" : undefined}
            disabled={item.isDisabled}
            onClick={() => {
              dismiss();
              item.onSelect();
            }}
          >
            {item.icon && <Icon name={item.icon} size={16} />}
            <span class="clip" dir="auto" title={item.label}>
              {item.label}
            </span>
            {item.isOn && <Icon name="check" size={16} />}
          </button>
        ))}
      </div>
    </div>
  );
}
