import type { TargetedKeyboardEvent, TargetedPointerEvent } from "preact";
import { useMemo } from "preact/hooks";
import { count } from "../text/format";
import type { ReportPage } from "./report";
import { HEIGHTS, nameOf, SOURCE_WORDS, SOURCES, type Source } from "./report";

interface Props {
  pages: readonly ReportPage[];
  /** How many there will be when all have come. */
  total: number;
  index: number;
  onSelect: (index: number) => void;
}

/** Neighbours that look the same are one block; `start` and `end` are page indexes, end exclusive. */
interface Run {
  start: number;
  end: number;
  source: Source;
}

// More blocks than this can't be told apart on a screen.
const MAX_BLOCKS = 1000;
// Up to here each page is a block of its own, with a gap.
const MAX_SINGLE = 240;

/** One thin block for each page. A slider: arrows go from page to page. */
export function PageBar({ pages, total, index, onSelect }: Props) {
  const page = pages[index];
  const width = Math.max(total, pages.length);
  if (!page) return null;

  function press(event: TargetedKeyboardEvent<HTMLDivElement>) {
    const moves: Record<string, number> = {
      ...{ ArrowRight: index + 1, ArrowUp: index + 1, ArrowLeft: index - 1, ArrowDown: index - 1 },
      ...{ PageUp: index + 10, PageDown: index - 10, Home: 0, End: pages.length - 1 },
    };
    const next = moves[event.key];
    if (next === undefined) return;
    event.preventDefault();
    onSelect(Math.max(0, Math.min(pages.length - 1, next)));
  }

  function point(event: TargetedPointerEvent<HTMLDivElement>) {
    if (event.buttons !== 1) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    const { left, width: shown } = event.currentTarget.getBoundingClientRect();
    const at = Math.floor(((event.clientX - left) / shown) * width);
    onSelect(Math.max(0, Math.min(pages.length - 1, at)));
  }

  const place = { left: `${(index / width) * 100}%`, width: `${100 / width}%` };
  return (
    <div
      class="page-bar"
      dir="ltr"
      role="slider"
      tabIndex={0}
      aria-label="Page"
      // The blocks of a short document are not as wide as the page.
      style={{ maxWidth: `${1.5 * width}rem` }}
      aria-valuemin={1}
      aria-valuemax={pages.length}
      aria-valuenow={index + 1}
      aria-valuetext={sentenceOf(page)}
      onKeyDown={press}
      onPointerDown={point}
      onPointerMove={point}
    >
      <Blocks pages={pages} width={width} />
      <span class="page-mark" style={place} />
    </div>
  );
}

function Blocks({ pages, width }: { pages: readonly ReportPage[]; width: number }) {
  // Thousands of pages, and the mark moves often.
  return useMemo(() => {
    const gap = width <= MAX_SINGLE ? 0.12 : 0;
    const warned = warnedPages(pages);
    const least = width / 400;
    return (
      <>
        <svg class="page-blocks" viewBox={`0 0 ${width} 100`} preserveAspectRatio="none" aria-hidden="true">
          {runsOf(pages, width).map(({ start, end, source }) => (
            <rect
              key={start}
              class={source}
              x={start + gap / 2}
              width={end - start - gap}
              y={100 - HEIGHTS[source]}
              height={HEIGHTS[source]}
            />
          ))}
        </svg>
        <svg class="page-warnings" viewBox={`0 0 ${width} 4`} preserveAspectRatio="none" aria-hidden="true">
          {warned.map((at) => (
            <rect key={at} class="warned" x={at + gap / 2} width={Math.max(1 - gap, least)} height={4} />
          ))}
        </svg>
      </>
    );
  }, [pages, width]);
}

function runsOf(pages: readonly ReportPage[], width: number): Run[] {
  const isSingle = width <= MAX_SINGLE;
  const step = Math.ceil(width / MAX_BLOCKS);
  const runs: Run[] = [];
  for (let start = 0; start < pages.length; start += step) {
    const end = Math.min(start + step, pages.length);
    const source = worstOf(pages.slice(start, end));
    const last = runs.at(-1);
    if (!isSingle && last?.source === source) last.end = end;
    else runs.push({ start, end, source });
  }
  return runs;
}

/** Of several pages in one block: what somebody looks for is what is missing. */
function worstOf(pages: readonly ReportPage[]): Source {
  return SOURCES[Math.max(...pages.map(({ source }) => SOURCES.indexOf(source)))] ?? "none";
}

function warnedPages(pages: readonly ReportPage[]): number[] {
  const step = Math.ceil(pages.length / MAX_BLOCKS);
  const places = pages.flatMap(({ warnings }, at) => (warnings.length > 0 ? [Math.floor(at / step) * step] : []));
  return [...new Set(places)];
}

function sentenceOf(page: ReportPage): string {
  const parts = [
    nameOf(page),
    SOURCE_WORDS[page.source],
    count(page.characters, "character"),
    count(page.chunks, "passage"),
  ];
  if (page.warnings.length > 0) parts.push(count(page.warnings.length, "warning"));
  return parts.join(", ");
}
