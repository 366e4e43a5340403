/** Where the pages lie in the column, in CSS pixels. Only arithmetic: nothing here touches the page. */

/** `ratio`: height by width, of what scales with the column; `px`: the height of a page of text. */
export type PageSize = { ratio: number } | { px: number };

export interface Layout {
  pageWidth: number;
  /** Of page n at index n - 1. */
  tops: number[];
  heights: number[];
  total: number;
}

/** A point of the document, and where on the screen it is to be. */
export interface Anchor {
  page: number;
  /** 0 is the page's top edge, 1 its bottom. */
  fraction: number;
  /** At the top of the view, or a third down: where people look. */
  at: "top" | "third";
}

export const GAP_PX = 16;

/** A length in a style. */
export const px = (pixels: number): string => `${pixels}px`;

/** That of a letter page, until the first page is read. */
const FIRST_GUESS: PageSize = { ratio: 11 / 8.5 };

export function layOut(count: number, pageWidth: number, sizes: ReadonlyMap<number, PageSize>): Layout {
  const guess = sizes.values().next().value ?? FIRST_GUESS;
  const layout: Layout = { pageWidth, tops: [], heights: [], total: GAP_PX };
  for (let page = 1; page <= count; page += 1) {
    const size = sizes.get(page) ?? guess;
    const height = "px" in size ? size.px : Math.round(pageWidth * size.ratio);
    layout.tops.push(layout.total);
    layout.heights.push(height);
    layout.total += height + GAP_PX;
  }
  return layout;
}

export const topOf = (layout: Layout, page: number): number => layout.tops[page - 1] ?? 0;
export const heightOf = (layout: Layout, page: number): number => layout.heights[page - 1] ?? 0;

/** The page at a height of the column; the gap above a page belongs to it. */
export function pageAt(layout: Layout, y: number): number {
  let low = 1;
  let high = Math.max(1, layout.tops.length);
  while (low < high) {
    const middle = (low + high) >> 1;
    if (topOf(layout, middle) + heightOf(layout, middle) < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** How far the column is scrolled when the anchor is where it is to be. */
export function scrollTopOf(layout: Layout, anchor: Anchor, viewHeight: number): number {
  const y = topOf(layout, anchor.page) + anchor.fraction * heightOf(layout, anchor.page);
  const wanted = anchor.at === "top" ? y - GAP_PX : y - viewHeight / 3;
  return Math.max(0, Math.min(wanted, layout.total - viewHeight));
}

/** What is a third down the view now. */
export function anchorAt(layout: Layout, scrollTop: number, viewHeight: number): Anchor {
  const y = scrollTop + viewHeight / 3;
  const page = pageAt(layout, y);
  return { page, fraction: (y - topOf(layout, page)) / (heightOf(layout, page) || 1), at: "third" };
}
