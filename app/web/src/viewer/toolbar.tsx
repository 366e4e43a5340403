/** Which page is looked at, and how large. */
import { useEffect, useState } from "preact/hooks";
import { formatNumber, formatPercent } from "../text/format";
import { IconButton } from "../ui/button";
import type { PdfFile } from "./pdf_file";
import { canZoom, type Reading, turnTo, zoomBy } from "./reading";
import "./toolbar.css";

export function Toolbar({ reading, pdf }: { reading: Reading; pdf: PdfFile | null }) {
  const page = reading.page.value;
  return (
    <div class="toolbar" role="group" aria-label="Pages and size">
      <IconButton
        icon="chevron-left"
        label="Previous page"
        disabled={page <= 1}
        onClick={() => turnTo(reading, page - 1)}
      />
      <PageField reading={reading} />
      <IconButton
        icon="chevron-right"
        label="Next page"
        disabled={page >= reading.pageCount}
        onClick={() => turnTo(reading, page + 1)}
      />
      <PrintedNumber pdf={pdf} page={page} />
      <span class="space" />
      <IconButton
        icon="zoom-out"
        label="Zoom out"
        disabled={!canZoom(reading, -1)}
        onClick={() => zoomBy(reading, -1)}
      />
      <button
        type="button"
        class="zoom"
        title="Fit the width"
        aria-label={`Fit the width, now ${formatPercent(reading.zoom.value)}`}
        onClick={() => (reading.zoom.value = 1)}
      >
        {formatPercent(reading.zoom.value)}
      </button>
      <IconButton icon="zoom-in" label="Zoom in" disabled={!canZoom(reading, 1)} onClick={() => zoomBy(reading, 1)} />
    </div>
  );
}

/** What is printed on the page, like "iv", where that is another number than ours. */
function PrintedNumber({ pdf, page }: { pdf: PdfFile | null; page: number }) {
  const [labels, setLabels] = useState<string[] | null>(null);
  useEffect(() => {
    pdf?.document.getPageLabels().then(setLabels, () => undefined);
  }, [pdf]);
  const label = labels?.[page - 1];
  if (!label || label === String(page)) return null;
  return (
    <span class="printed clip" title={`Printed page number: ${label}`}>
      ({label})
    </span>
  );
}

/** "57 of 160"; the number can be typed over. */
function PageField({ reading }: { reading: Reading }) {
  const [typed, setTyped] = useState<string | null>(null);

  function go() {
    const page = Number.parseInt(typed ?? "", 10);
    if (Number.isFinite(page)) turnTo(reading, page);
    setTyped(null);
  }

  return (
    <form
      class="page-field"
      onSubmit={(event) => {
        event.preventDefault();
        go();
      }}
    >
      <input
        type="text"
        inputMode="numeric"
        autocomplete="off"
        aria-label={`Page, of ${formatNumber(reading.pageCount)}`}
        value={typed ?? String(reading.page.value)}
        size={Math.max(2, String(reading.pageCount).length)}
        onFocus={(event) => event.currentTarget.select()}
        onInput={(event) => setTyped(event.currentTarget.value)}
        onBlur={go}
      />
      <span aria-hidden="true">of {formatNumber(reading.pageCount)}</span>
    </form>
  );
}
