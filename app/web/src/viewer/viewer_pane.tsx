/** The document beside the chat, open at the page that a citation names. */
import type { TargetedKeyboardEvent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { downloadDocument } from "../documents/actions";
import { IconButton } from "../ui/button";
import { tellError } from "../ui/toast";
import { DocumentLoader } from "./document_loader";
import { Separator } from "./separator";
import { closeViewer, type Viewing, viewing } from "./state";
import "./viewer_pane.css";

export function ViewerPane() {
  const root = useRef<HTMLElement>(null);
  useFocus(root);
  const shown = viewing.value;
  if (!shown) return null;

  function onKeyDown(event: TargetedKeyboardEvent<HTMLElement>) {
    if (event.defaultPrevented || scrollFromAfar(event)) return;
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    closeViewer();
  }

  return (
    <aside class="viewer" ref={root} tabIndex={-1} aria-label={`Document: ${shown.filename}`} onKeyDown={onKeyDown}>
      <Separator />
      <Header shown={shown} />
      <DocumentLoader key={shown.documentId} documentId={shown.documentId} filename={shown.filename} />
    </aside>
  );
}

function Header({ shown }: { shown: Viewing }) {
  const [isBusy, setBusy] = useState(false);

  function download() {
    setBusy(true);
    downloadDocument({ id: shown.documentId, filename: shown.filename })
      .catch(tellError)
      .finally(() => setBusy(false));
  }

  return (
    <header class="viewer-header">
      <h2 class="clip" title={shown.filename} dir="auto">
        {shown.filename}
      </h2>
      <IconButton icon="download" label="Download" disabled={isBusy} aria-busy={isBusy} onClick={download} />
      <IconButton icon="close" label="Close the document" onClick={closeViewer} />
    </header>
  );
}

/** Takes the focus when it opens, and gives it back to what opened it. */
function useFocus(root: { readonly current: HTMLElement | null }): void {
  useEffect(() => {
    const opener = document.activeElement;
    root.current?.focus({ preventScroll: true });
    return () => {
      const isFree = document.activeElement === document.body || document.activeElement === null;
      if (isFree && opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
}

/** The keys that scroll do so from every button of the pane. */
function scrollFromAfar({ key, target, currentTarget }: TargetedKeyboardEvent<HTMLElement>): boolean {
  const pages = currentTarget.querySelector(".pages");
  if (!pages || !(target instanceof Element) || pages.contains(target) || target.matches("input, [role=separator]"))
    return false;
  const steps: Record<string, number> = { PageDown: 0.9, PageUp: -0.9 };
  const step = steps[key];
  if (step !== undefined) pages.scrollBy({ top: step * pages.clientHeight });
  else if (key === "Home") pages.scrollTo({ top: 0 });
  else if (key === "End") pages.scrollTo({ top: pages.scrollHeight });
  else return false;
  return true;
}
