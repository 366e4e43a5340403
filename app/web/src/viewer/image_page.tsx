/** A page as the picture that the server draws. */
import { useEffect, useState } from "preact/hooks";
import { get } from "../api/client";
import { useDebounced } from "../text/use_debounced";
import type { PageSize } from "./layout";
import { makeTurns, whenFree } from "./turns";

interface ImagePageProps {
  documentId: string;
  number: number;
  /** In CSS pixels. */
  width: number;
  distance: () => number;
  onSize: (size: PageSize) => void;
  onFail: (error: unknown) => void;
}

// The widths that the server draws.
const STEP_PX = 200;
const WIDEST_PX = 2000;
const MOST_PIXEL_RATIO = 2;
const SETTLED_MS = 150;

const takeTurn = makeTurns(3);

export function ImagePage({ documentId, number, width, distance, onSize, onFail }: ImagePageProps) {
  const pixels = STEP_PX * Math.ceil((width * Math.min(window.devicePixelRatio, MOST_PIXEL_RATIO)) / STEP_PX);
  const drawnWidth = useDebounced(Math.min(pixels, WIDEST_PX), SETTLED_MS);
  const url = useImage(`/api/v1/documents/${documentId}/pages/${number}/image?width=${drawnWidth}`, distance, onFail);
  if (!url) return null;
  return (
    <img
      src={url}
      alt={`Page ${number}`}
      draggable={false}
      onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => onSize({ ratio: naturalHeight / naturalWidth })}
      onError={onFail}
    />
  );
}

/** An address of the bytes, as long as it is shown. The old one stays until the new one is there. */
function useImage(path: string, distance: () => number, onFail: (error: unknown) => void): string | null {
  const [url, setUrl] = useState<string | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    const { signal } = stop;
    takeTurn(() => whenFree(async () => (await get(path, { signal })).blob(), signal), distance, signal).then(
      (blob) => !signal.aborted && setUrl(URL.createObjectURL(blob)),
      (error: unknown) => !signal.aborted && onFail(error),
    );
    return () => stop.abort();
  }, [path]);
  useEffect(() => () => void (url && URL.revokeObjectURL(url)), [url]);
  return url;
}
