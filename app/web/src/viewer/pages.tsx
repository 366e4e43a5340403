/** All pages in one column that scrolls; only those near the view are there. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import {
  anchorAt,
  GAP_PX,
  heightOf,
  type Layout,
  layOut,
  type PageSize,
  pageAt,
  px,
  scrollTopOf,
  topOf,
} from "./layout";
import type { OpenDocument, Way } from "./open_document";
import { Page } from "./page";
import type { Quote } from "./quote";
import { type Reading, zoomBy } from "./reading";
import "./pages.css";

interface PagesProps {
  opened: OpenDocument;
  reading: Reading;
  quote: Quote | null;
  onMarked: (fraction: number | null) => void;
  onWay: (way: Way) => void;
}

type Ref = { readonly current: HTMLDivElement | null };

const NARROWEST_PX = 160;
// What a scroll position may be off by rounding.
const SLACK_PX = 1.5;

export function Pages({ opened, reading, quote, onMarked, onWay }: PagesProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const [sizes, learn] = useSizes();
  const view = useViewSize(scroller);
  const pageWidth = Math.round(Math.max(NARROWEST_PX, view.width - 2 * GAP_PX) * reading.zoom.value);
  const layout = useMemo(() => layOut(opened.pageCount, pageWidth, sizes), [opened.pageCount, pageWidth, sizes]);
  const [scrollTop, onScroll] = useScrolling(reading, layout, view.height, scroller);
  useWheelZoom(reading, scroller);
  useFocus(scroller);
  const distances = (number: number) => () => Math.abs(number - reading.page.peek());
  return (
    <div class="pages" ref={scroller} tabIndex={0} role="region" aria-label="Pages" onScroll={onScroll}>
      <div
        class="column"
        style={{ height: px(layout.total), width: px(pageWidth + 2 * GAP_PX), "--zoom": reading.zoom.value }}
      >
        {near(layout, scrollTop, view.height).map((number) => (
          <Page
            key={number}
            opened={opened}
            number={number}
            place={{ top: topOf(layout, number), width: pageWidth, height: heightOf(layout, number) }}
            quote={quote}
            distance={distances(number)}
            onSize={learn}
            onMarked={onMarked}
            onWay={onWay}
          />
        ))}
      </div>
    </div>
  );
}

/** The pages in view, and those of one view before and behind it. */
function near(layout: Layout, scrollTop: number, viewHeight: number): number[] {
  if (viewHeight === 0) return [];
  const first = pageAt(layout, scrollTop - viewHeight);
  const last = pageAt(layout, scrollTop + 2 * viewHeight);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

function useSizes(): [ReadonlyMap<number, PageSize>, (page: number, size: PageSize) => void] {
  const [sizes, setSizes] = useState<ReadonlyMap<number, PageSize>>(new Map());
  const learn = (page: number, size: PageSize) =>
    setSizes((known) => {
      const old = known.get(page);
      const isSame = old !== undefined && JSON.stringify(old) === JSON.stringify(size);
      return isSame ? known : new Map(known).set(page, size);
    });
  return [sizes, learn];
}

function useViewSize(element: Ref): { width: number; height: number } {
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const { current } = element;
    if (!current) return;
    const measure = () => setSize({ width: current.clientWidth, height: current.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(current);
    return () => observer.disconnect();
  }, []);
  return size;
}

/**
 * Keeps the same words in view when pages turn out to be of another size, when the column gets
 * wider and when it is zoomed. Scrolls to where `reading.anchor` says, when that changes.
 */
function useScrolling(reading: Reading, layout: Layout, viewHeight: number, scroller: Ref): [number, () => void] {
  const sentTo = reading.anchor.value;
  const [scrollTop, setScrollTop] = useState(0);
  const now = useRef({ anchor: sentTo, sentTo, layout: null as Layout | null, setTo: 0 }).current;
  if (now.sentTo !== sentTo) Object.assign(now, { anchor: sentTo, sentTo, layout: null });

  useLayoutEffect(() => {
    const { current } = scroller;
    if (!current || viewHeight === 0) return;
    const wanted = scrollTopOf(layout, now.anchor, viewHeight);
    if (Math.abs(current.scrollTop - wanted) > SLACK_PX) current.scrollTop = wanted;
    if (now.layout && now.layout.pageWidth !== layout.pageWidth)
      recenter(current, now.layout.pageWidth, layout.pageWidth);
    Object.assign(now, { layout, setTo: current.scrollTop });
    setScrollTop(current.scrollTop);
  }, [layout, sentTo, viewHeight]);

  function onScroll() {
    const { current } = scroller;
    if (!current || Math.abs(current.scrollTop - now.setTo) < SLACK_PX) return;
    Object.assign(now, { anchor: anchorAt(layout, current.scrollTop, viewHeight), setTo: NaN });
    const isAtEnd = current.scrollTop + viewHeight >= layout.total - SLACK_PX;
    reading.page.value = isAtEnd ? reading.pageCount : now.anchor.page;
    reading.hasScrolled = true;
    setScrollTop(current.scrollTop);
  }
  // What is about to be scrolled to is what is rendered.
  return [now.layout === layout ? scrollTop : scrollTopOf(layout, now.anchor, viewHeight), onScroll];
}

function recenter(element: HTMLElement, oldWidth: number, newWidth: number): void {
  const middle = element.clientWidth / 2;
  element.scrollLeft = ((element.scrollLeft + middle) * newWidth) / oldWidth - middle;
}

/** The keys that scroll work at once, where the pane itself was given the focus. */
function useFocus(scroller: Ref): void {
  useEffect(() => {
    if (document.activeElement?.matches(".viewer")) scroller.current?.focus({ preventScroll: true });
  }, []);
}

/** The wheel with Ctrl held, which is also what two fingers on a touchpad send. */
function useWheelZoom(reading: Reading, scroller: Ref): void {
  useEffect(() => {
    const { current } = scroller;
    let turned = 0;
    const onWheel = (event: WheelEvent) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      turned += event.deltaY;
      if (Math.abs(turned) < 40) return;
      zoomBy(reading, turned < 0 ? 1 : -1);
      turned = 0;
    };
    current?.addEventListener("wheel", onWheel, { passive: false });
    return () => current?.removeEventListener("wheel", onWheel);
  }, [reading]);
}
