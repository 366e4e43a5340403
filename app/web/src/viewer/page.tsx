/** One page in the column, shown in the best way that works for it. */
import { useState } from "preact/hooks";
import { ApiError } from "../api/errors";
import { Spinner } from "../ui/button";
import { ImagePage } from "./image_page";
import { type PageSize, px } from "./layout";
import { lesser, type OpenDocument, type Way } from "./open_document";
import { PdfPage } from "./pdf_page";
import { type Quote, QuoteBoxes } from "./quote";
import { TextPage } from "./text_page";
import { TookTooLong } from "./turns";

interface PageProps {
  opened: OpenDocument;
  number: number;
  /** In CSS pixels. */
  place: { top: number; width: number; height: number };
  quote: Quote | null;
  distance: () => number;
  onSize: (page: number, size: PageSize) => void;
  onMarked: (fraction: number | null) => void;
  /** The whole document can't be shown better than in this way. */
  onWay: (way: Way) => void;
}

const NO_IMAGES = new Set(["no_page_image", "encrypted"]);

export function Page({ opened, number, place, quote, distance, onSize, onMarked, onWay }: PageProps) {
  const [worst, setWorst] = useState<Way>("pdf");
  const way = lesser(worst, opened.way);
  const its = quote?.page === number ? quote : null;
  const learn = (size: PageSize) => onSize(number, size);

  function onFail(error: unknown) {
    if (error instanceof TookTooLong) return onWay("image");
    if (error instanceof ApiError && NO_IMAGES.has(error.code)) return onWay("text");
    setWorst(way === "pdf" ? "image" : "text");
  }

  const { top, width, height } = place;
  const common = { documentId: opened.id, number, distance, onSize: learn };
  return (
    <div
      class={its?.place === "nowhere" ? "sheet pointed-at" : "sheet"}
      role="group"
      aria-label={`Page ${number}`}
      data-page={number}
      style={{ top: px(top), width: px(width), height: way === "text" ? "auto" : px(height) }}
    >
      {way !== "text" && (
        <div class="waiting">
          <Spinner />
        </div>
      )}
      {way === "pdf" && opened.pdf && (
        <PdfPage pdf={opened.pdf} number={number} width={width} distance={distance} onSize={learn} onFail={onFail} />
      )}
      {way === "image" && <ImagePage {...common} width={width} onFail={onFail} />}
      {way === "text" && <TextPage {...common} height={height} quote={its} onMarked={onMarked} />}
      {way !== "text" && its && <QuoteBoxes key={its.serial} rectangles={its.rectangles} />}
    </div>
  );
}
