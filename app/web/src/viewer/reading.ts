/** Where somebody is in an open document. The toolbar and the column of pages share it. */
import { type Signal, signal } from "@preact/signals";
import type { Anchor } from "./layout";

export interface Reading {
  pageCount: number;
  /** The page that is looked at. */
  page: Signal<number>;
  /** Where it was last sent; setting it scrolls there. */
  anchor: Signal<Anchor>;
  /** 1: as wide as the column. */
  zoom: Signal<number>;
  /** Whether the person went elsewhere since a quote was asked for: nothing may scroll under them. */
  hasScrolled: boolean;
}

const ZOOMS = [0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4] as const;

export function beginReading(pageCount: number, page: number): Reading {
  const first = clampPage(pageCount, page);
  const anchor = signal<Anchor>({ page: first, fraction: 0, at: "top" });
  return { pageCount, page: signal(first), anchor, zoom: signal(1), hasScrolled: false };
}

export const clampPage = (pageCount: number, page: number): number => Math.max(1, Math.min(page, pageCount));

/** As the person asks for. */
export function turnTo(reading: Reading, page: number): void {
  reading.hasScrolled = true;
  goTo(reading, { page: clampPage(reading.pageCount, page), fraction: 0, at: "top" });
}

export function goTo(reading: Reading, anchor: Anchor): void {
  reading.page.value = anchor.page;
  reading.anchor.value = anchor;
}

/** To the next step in a direction; stays at the last one. */
export function zoomBy(reading: Reading, direction: 1 | -1): void {
  const now = reading.zoom.value;
  const next = direction > 0 ? ZOOMS.find((zoom) => zoom > now) : ZOOMS.findLast((zoom) => zoom < now);
  reading.zoom.value = next ?? now;
}

export const canZoom = ({ zoom }: Reading, direction: 1 | -1): boolean =>
  direction > 0 ? zoom.value < (ZOOMS.at(-1) ?? 1) : zoom.value > ZOOMS[0];
