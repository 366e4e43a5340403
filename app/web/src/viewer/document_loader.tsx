/** Opens a document and shows its pages, or why there are none. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { isGone } from "../api/errors";
import { EmptyState, ErrorState, Loading } from "../ui/states";
import { type OpenDocument, openDocument, type Way, withoutPdf } from "./open_document";
import { Pages } from "./pages";
import { announcement, findRectangles, type Quote, useQuote } from "./quote";
import { beginReading } from "./reading";
import { viewing } from "./state";
import { Toolbar } from "./toolbar";

type State = { name: "loading" } | { name: "failed"; error: unknown } | { name: "open"; opened: OpenDocument };

export function DocumentLoader({ documentId, filename }: { documentId: string; filename: string }) {
  const [state, setState] = useState<State>({ name: "loading" });
  const [attempt, setAttempt] = useState(0);

  useEffect(() => {
    let isGone = false;
    setState({ name: "loading" });
    const target = viewing.peek();
    if (target) void findRectangles(target);
    openDocument(documentId, filename).then(
      (opened) => !isGone && setState({ name: "open", opened }),
      (error: unknown) => !isGone && setState({ name: "failed", error }),
    );
    return () => (isGone = true);
  }, [documentId, attempt]);

  if (state.name === "loading") return <Loading label="Opening the document" />;
  if (state.name === "failed") return <Failed error={state.error} onRetry={() => setAttempt(attempt + 1)} />;
  if (state.opened.pageCount === 0) return <NoPages />;
  const onWay = (way: Way) =>
    setState({ name: "open", opened: way === "image" ? withoutPdf(state.opened) : { ...state.opened, way } });
  return <Reader opened={state.opened} onWay={onWay} />;
}

function Reader({ opened, onWay }: { opened: OpenDocument; onWay: (way: Way) => void }) {
  const reading = useMemo(() => beginReading(opened.pageCount, viewing.peek()?.page ?? 1), [opened.id]);
  const [quote, onMarked] = useQuote(opened, reading);
  return (
    <>
      <Toolbar reading={reading} pdf={opened.pdf} />
      <p class="visually-hidden" role="status">
        {announcement(quote)}
      </p>
      {quote?.place === "nowhere" && <NotLocated quote={quote} />}
      <Pages opened={opened} reading={reading} quote={quote} onMarked={onMarked} onWay={onWay} />
    </>
  );
}

function NotLocated({ quote }: { quote: Quote }) {
  return (
    <div class="quote-note" role="note">
      <p>These words could not be located exactly on page {quote.page}.</p>
      <blockquote dir="auto" tabIndex={0}>
        {quote.text}
      </blockquote>
    </div>
  );
}

function Failed({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  if (!isGone(error)) return <ErrorState error={error} onRetry={onRetry} />;
  const text = viewing.value?.quote?.text;
  return (
    <EmptyState icon="trash" title="This document was deleted">
      <p>{text ? "What was quoted from it:" : "It can't be shown any more."}</p>
      {text && <blockquote dir="auto">{text}</blockquote>}
    </EmptyState>
  );
}

function NoPages() {
  return (
    <EmptyState icon="document" title="There are no pages to show">
      <p>The document has not been read yet, or nothing could be read in it. You can download it.</p>
    </EmptyState>
  );
}
