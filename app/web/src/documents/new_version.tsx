import type { Ref, TargetedEvent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { formatPercent } from "../text/format";
import { Button } from "../ui/button";
import { ProgressBar } from "../ui/states";
import { tell, tellError } from "../ui/toast";
import { type DocumentOut, replaceContent } from "./actions";
import { ACCEPT } from "./files";

interface Sending {
  filename: string;
  sent: number;
  cancel: () => void;
}

interface Replacing {
  input: Ref<HTMLInputElement>;
  choose: () => void;
  take: (event: TargetedEvent<HTMLInputElement>) => void;
  sending: Sending | null;
}

/** New content for a document. The old one is served until that is ready. */
export function useNewVersion(document: DocumentOut): Replacing {
  const input = useRef<HTMLInputElement>(null);
  const [sending, setSending] = useState<Sending | null>(null);
  useEffect(() => (sending ? askBeforeLeaving() : undefined), [sending !== null]);

  async function send(file: File) {
    const controller = new AbortController();
    const show = (sent: number) => setSending({ filename: file.name, sent, cancel: () => controller.abort() });
    show(0);
    try {
      const isNew = await replaceContent(document, file, show, controller.signal);
      tell(isNew ? "The new version is being processed." : "This file is what the document has already.");
    } catch (error) {
      if (!controller.signal.aborted) tellError(error);
    }
    setSending(null);
  }

  function take(event: TargetedEvent<HTMLInputElement>) {
    const file = event.currentTarget.files?.[0];
    event.currentTarget.value = "";
    if (file) void send(file);
  }

  return { input, choose: () => input.current?.click(), take, sending };
}

export function NewVersion({ replacing: { input, take, sending } }: { replacing: Replacing }) {
  return (
    <>
      <input ref={input} type="file" hidden accept={ACCEPT} aria-label="A new version" onChange={take} />
      {sending && (
        <section class="card new-version" aria-label="Upload of a new version">
          <p dir="auto" class="clip" title={sending.filename}>
            {sending.filename}
          </p>
          <ProgressBar value={sending.sent} label={`Upload of ${sending.filename}`} />
          <span class="status-note">{formatPercent(sending.sent)}</span>
          <Button kind="quiet" onClick={sending.cancel}>
            Cancel
          </Button>
        </section>
      )}
    </>
  );
}

function askBeforeLeaving(): () => void {
  const ask = (event: BeforeUnloadEvent) => event.preventDefault();
  window.addEventListener("beforeunload", ask);
  return () => window.removeEventListener("beforeunload", ask);
}
