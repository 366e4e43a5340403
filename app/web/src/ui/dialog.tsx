import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { messageOf } from "../api/errors";
import { IconButton } from "./button";
import { Banner } from "./states";
import "./dialog.css";

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  /** Buttons at its foot, the main one last. */
  actions?: ComponentChildren;
  /** Why its action failed. */
  error?: unknown;
}

/** A modal dialog; open as long as it is rendered. Escape and a click beside it close it. */
export function Dialog({ title, onClose, children, actions, error = null }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  useEffect(() => {
    const opener = document.activeElement;
    element.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  return (
    <dialog
      ref={element}
      class="dialog"
      aria-labelledby={titleId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onPointerDown={(event) => event.target === element.current && onClose()}
    >
      <div class="dialog-body">
        <header>
          <h2 id={titleId}>{title}</h2>
          <IconButton icon="close" label="Close" onClick={onClose} />
        </header>
        {children}
        {error !== null && <Banner kind="error">{messageOf(error)}</Banner>}
        {actions && <footer>{actions}</footer>}
      </div>
    </dialog>
  );
}
