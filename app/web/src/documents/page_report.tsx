import { useState } from "preact/hooks";
import { count, formatNumber } from "../text/format";
import { Button, IconButton } from "../ui/button";
import { Icon } from "../ui/icon";
import { ErrorState, Loading } from "../ui/states";
import { openViewer } from "../viewer/state";
import type { DocumentOut } from "./actions";
import { isActive } from "./feed";
import { PageBar } from "./page_bar";
import { nameOf, type Report, type ReportPage, SOURCE_WORDS, SOURCES, useReport } from "./report";
import "./page_report.css";

/** Where the text of each page came from. */
export function PageReport({ document }: { document: DocumentOut }) {
  const { id, status, filename, version } = document;
  const { report, pages, error, reload } = useReport(id, isActive(document) ? "" : `${version} ${status}`);
  const [index, setIndex] = useState(0);
  const page = pages[Math.min(index, pages.length - 1)];
  if (error !== null && pages.length === 0) return <ErrorState error={error} onRetry={reload} />;
  if (!report) return <Loading label="Loading the report" />;
  if (!page) return null;
  return (
    <section class="card page-report" aria-labelledby="report-title">
      <header>
        <h2 id="report-title">How its pages were read</h2>
        <p class="status-note">
          {`${count(report.page_count, "page")}, ${count(report.characters, "character")}, ${count(report.chunk_count, "passage")}`}
        </p>
      </header>
      <Legend report={report} pages={pages} index={index} onSelect={setIndex} />
      <PageBar pages={pages} total={report.page_count} index={pages.indexOf(page)} onSelect={setIndex} />
      {error !== null && <ErrorState error={error} onRetry={reload} />}
      <PageDetails
        document={{ id, filename }}
        page={page}
        total={report.page_count}
        onStep={(step) => setIndex(clamp(index + step, pages.length))}
      />
    </section>
  );
}

const clamp = (index: number, length: number) => Math.max(0, Math.min(length - 1, index));

interface LegendProps {
  report: Report;
  pages: readonly ReportPage[];
  index: number;
  onSelect: (index: number) => void;
}

/** Counts by source; each button goes to the next page of its kind. */
function Legend({ report, pages, index, onSelect }: LegendProps) {
  function goToNext(matches: (page: ReportPage) => boolean) {
    const after = pages.findIndex((page, at) => at > index && matches(page));
    const next = after >= 0 ? after : pages.findIndex(matches);
    if (next >= 0) onSelect(next);
  }
  const shown = SOURCES.filter((source) => (report.sources[source] ?? 0) > 0);
  return (
    <ul class="legend">
      {shown.map((source) => (
        <li key={source}>
          <button type="button" title="Go to the next one" onClick={() => goToNext((page) => page.source === source)}>
            <span class={`swatch ${source}`} />
            {SOURCE_WORDS[source]}
            <strong>{formatNumber(report.sources[source] ?? 0)}</strong>
          </button>
        </li>
      ))}
      {report.warning_count > 0 && (
        <li>
          <button type="button" title="Go to the next one" onClick={() => goToNext((page) => page.warnings.length > 0)}>
            <span class="swatch warned" />
            With a warning
            <strong>{formatNumber(report.warning_count)}</strong>
          </button>
        </li>
      )}
    </ul>
  );
}

interface DetailsProps {
  document: { id: string; filename: string };
  page: ReportPage;
  total: number;
  onStep: (step: 1 | -1) => void;
}

/** The chosen page. The slider reads it out; here it is to be seen. */
function PageDetails({ document, page, total, onStep }: DetailsProps) {
  const { number, source, characters, chunks, warnings } = page;
  return (
    <div class="page-details">
      <div class="page-steps">
        <IconButton icon="chevron-left" label="The page before" disabled={number <= 1} onClick={() => onStep(-1)} />
        <IconButton icon="chevron-right" label="The next page" disabled={number >= total} onClick={() => onStep(1)} />
      </div>
      <div class="page-facts">
        <p>
          <strong dir="auto">{nameOf(page)}</strong> of {formatNumber(total)}
        </p>
        <p class="status-note">
          <span class={`swatch ${source}`} /> {SOURCE_WORDS[source]}, {count(characters, "character")},{" "}
          {count(chunks, "passage")}
        </p>
        {warnings.length > 0 && (
          <ul class="page-warned">
            {warnings.map((warning) => (
              <li key={warning}>
                <Icon name="warning" size={16} />
                <span dir="auto">{warning}</span>
              </li>
            ))}
          </ul>
        )}
      </div>
      <Button
        icon="document"
        onClick={() => openViewer({ documentId: document.id, filename: document.filename, page: number, quote: null })}
      >
        View this page
      </Button>
    </div>
  );
}
