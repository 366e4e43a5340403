/** The edge between chat and document, which can be dragged or moved with the arrow keys. */
import type { TargetedKeyboardEvent, TargetedPointerEvent } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import "./separator.css";

const KEY = "footnote-viewer-width";
const STEP_PX = 32;
const NARROWEST_PX = 320;
const CHAT_PX = 352;

restore();

export function Separator() {
  const element = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(NARROWEST_PX);
  const [widest, setWidest] = useState(NARROWEST_PX);

  useLayoutEffect(() => {
    const pane = element.current?.parentElement;
    if (!pane) return;
    const measure = () => {
      setWidth(Math.round(pane.offsetWidth));
      setWidest(Math.max(NARROWEST_PX, pane.offsetWidth + chatWidth(pane) - CHAT_PX));
    };
    const observer = new ResizeObserver(measure);
    observer.observe(pane);
    return () => observer.disconnect();
  }, []);

  const resize = (wanted: number) => apply(Math.round(Math.max(NARROWEST_PX, Math.min(wanted, widest))));

  function onKeyDown(event: TargetedKeyboardEvent<HTMLDivElement>) {
    // Arrows move the edge itself, which is on the left of the document, or on its right in RTL.
    const outward = isRtl(event.currentTarget) ? "ArrowRight" : "ArrowLeft";
    const inward = outward === "ArrowLeft" ? "ArrowRight" : "ArrowLeft";
    const widths: Record<string, number> = {
      [outward]: width + STEP_PX,
      [inward]: width - STEP_PX,
      Home: NARROWEST_PX,
      End: widest,
    };
    const next = widths[event.key];
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    resize(next);
  }

  function onPointerMove(event: TargetedPointerEvent<HTMLDivElement>) {
    const { currentTarget: edge, clientX } = event;
    if (!edge.hasPointerCapture(event.pointerId) || !edge.parentElement) return;
    const pane = edge.parentElement.getBoundingClientRect();
    resize(isRtl(edge) ? clientX - pane.left : pane.right - clientX);
  }

  return (
    <div
      ref={element}
      class="edge"
      role="separator"
      tabIndex={0}
      aria-orientation="vertical"
      aria-label="Width of the document"
      aria-valuemin={NARROWEST_PX}
      aria-valuemax={Math.round(widest)}
      aria-valuenow={width}
      aria-valuetext={`${width} pixels`}
      onKeyDown={onKeyDown}
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={onPointerMove}
      onDblClick={() => apply(null)}
    />
  );
}

const isRtl = (element: Element): boolean => getComputedStyle(element).direction === "rtl";

const chatWidth = (pane: HTMLElement): number =>
  pane.previousElementSibling instanceof HTMLElement ? pane.previousElementSibling.offsetWidth : 0;

/** Null: as wide as it is by itself. */
function apply(width: number | null): void {
  const { style } = document.documentElement;
  if (width === null) style.removeProperty("--viewer-width");
  else style.setProperty("--viewer-width", `minmax(${NARROWEST_PX}px, ${width}px)`);
  try {
    if (width === null) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, String(width));
  } catch {
    // A browser that keeps nothing has the width for this page only.
  }
}

function restore(): void {
  try {
    const width = Number(localStorage.getItem(KEY));
    if (width >= NARROWEST_PX) apply(width);
  } catch {
    // See above.
  }
}
