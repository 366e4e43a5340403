/** A chat before its first question: how to get documents in, and what one could ask. */
import { useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { models } from "../api/models";
import { useLoaded } from "../api/use_loaded";
import { active, changes } from "../documents/feed";
import { UploadButtons, UploadList, uploads } from "../documents/uploads";
import { count } from "../text/format";
import { IconButton } from "../ui/button";
import { Icon } from "../ui/icon";
import { Banner } from "../ui/states";
import { askNext } from "./asking";
import { keepText, keptText } from "./kept";
import type { Thread } from "./thread";
import "./first_minute.css";

type Suggestion = Schemas["SuggestedQuestion"];

export function FirstMinute({ thread, onAsk }: { thread: Thread; onAsk: () => void }) {
  const known = useDocuments();
  const isBusy = uploads.value.length > 0 || active.value.queued + active.value.processing > 0;
  if (!known) return null;
  return (
    <section class="first-minute">
      <ExtractiveBanner />
      {known.isAnyReady ? <Welcome thread={thread} suggestions={known.suggestions} onAsk={onAsk} /> : <Begin />}
      {isBusy && <UploadList />}
      <Processing />
    </section>
  );
}

/** Undefined: not known yet. Where it can't be known the page goes on without. */
function useDocuments() {
  return useLoaded(async () => {
    const [page, questions] = await Promise.allSettled([
      read(api.GET("/api/v1/documents", { params: { query: { status: ["ready"], limit: 1 } } })),
      read(api.GET("/api/v1/documents/suggestions", { params: { query: { limit: 4 } } })),
    ]);
    return {
      isAnyReady: page.status === "rejected" || page.value.total > 0,
      suggestions: questions.status === "fulfilled" ? questions.value.items : [],
    };
  }, [changes.value]).data;
}

function Begin() {
  return (
    <>
      <header>
        <h2>Ask your documents</h2>
        <p>Every answer names the page and quotes it, so that you can check it.</p>
      </header>
      <div class="drop-here">
        <Icon name="upload" size={32} />
        <p class="big">Drop PDFs or a whole folder here</p>
        <p>Or choose them:</p>
        <UploadButtons />
      </div>
    </>
  );
}

function Welcome({
  thread,
  suggestions,
  onAsk,
}: {
  thread: Thread;
  suggestions: readonly Suggestion[];
  onAsk: () => void;
}) {
  function choose(question: string) {
    onAsk();
    void askNext(thread, question);
  }
  return (
    <>
      <header>
        <h2>What would you like to know?</h2>
        <p>Answers come from your documents, with the page and the words they rest on.</p>
      </header>
      {suggestions.length > 0 && (
        <ul class="suggestions" aria-label="Sample questions">
          {suggestions.map(({ question, document_id, filename }) => (
            <li key={document_id + question}>
              <button type="button" disabled={thread.asking.value !== null} onClick={() => choose(question)}>
                <span class="text" dir="auto">
                  {question}
                </span>
                <span class="clip" dir="auto" title={filename}>
                  {filename}
                </span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

/** One can ask meanwhile: what is ready is searched. */
function Processing() {
  const waiting = active.value.queued + active.value.processing;
  return (
    <p class="processing" role="status">
      {waiting > 0 &&
        `${count(waiting, "document")} ${waiting === 1 ? "is" : "are"} still being processed. You can ask already.`}
    </p>
  );
}

function ExtractiveBanner() {
  const [isDismissed, setDismissed] = useState(keptText("banner", null) !== "");
  if (isDismissed || models.value?.answers !== "extractive") return null;
  const hints = models.value.providers.flatMap(({ hint }) => (hint ? [hint] : []));
  function dismiss() {
    keepText("banner", null, "dismissed");
    setDismissed(true);
  }
  return (
    <Banner>
      <div class="extractive">
        <div>
          <p>
            Answers are sentences quoted from your documents. To have them written by a language model, do one of these:
          </p>
          <ul>
            {hints.map((hint) => (
              <li key={hint}>{hint}</li>
            ))}
          </ul>
        </div>
        <IconButton icon="close" label="Dismiss" onClick={dismiss} />
      </div>
    </Banner>
  );
}
