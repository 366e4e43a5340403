import { count, formatNumber } from "../text/format";
import { Button, IconButton } from "../ui/button";
import { Icon } from "../ui/icon";
import { openViewer } from "../viewer/state";
import { nameOf, SOURCE_WORDS } from "./page_sources";
import type { ReportPage } from "./use_report";

interface Props {
  document: { id: string; filename: string };
  page: ReportPage;
  total: number;
  onStep: (step: 1 | -1) => void;
}

/** The chosen page. The slider reads it out; here it is to be seen. */
export function PageDetails({ document, page, total, onStep }: Props) {
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
