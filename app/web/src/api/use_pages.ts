import { useEffect, useRef, useState } from "preact/hooks";

interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export interface Pages<T> {
  /** What came so far; undefined before the first page. */
  items: T[] | undefined;
  /** Why the last loading failed. */
  error: unknown;
  hasMore: boolean;
  isBusy: boolean;
  loadMore: () => void;
  /** From the first page on; what is there stays until that has come. */
  reload: () => void;
}

interface State<T> {
  items: T[] | undefined;
  next: string | null;
  error: unknown;
  isBusy: boolean;
}

/** A list that comes page by page, begun anew whenever one of `inputs` changes. */
export function usePages<T>(
  load: (cursor: string | undefined, signal: AbortSignal) => Promise<Page<T>>,
  inputs: readonly unknown[] = [],
): Pages<T> {
  const [state, setState] = useState<State<T>>({ items: undefined, next: null, error: null, isBusy: true });
  const [attempt, setAttempt] = useState(0);
  const stop = useRef(new AbortController());

  function fetchPage(cursor: string | undefined, before: readonly T[]) {
    const { signal } = stop.current;
    setState((now) => ({ ...now, isBusy: true, error: null }));
    load(cursor, signal).then(
      ({ items, next_cursor }) => {
        if (signal.aborted) return;
        setState({ items: [...before, ...items], next: next_cursor, error: null, isBusy: false });
      },
      (error: unknown) => signal.aborted || setState((now) => ({ ...now, error, isBusy: false })),
    );
  }

  useEffect(() => {
    const own = new AbortController();
    stop.current = own;
    fetchPage(undefined, []);
    return () => own.abort();
  }, [...inputs, attempt]);

  const { items, next, error, isBusy } = state;
  return {
    ...{ items, error, isBusy },
    hasMore: next !== null,
    loadMore: () => next !== null && fetchPage(next, items ?? []),
    reload: () => setAttempt((number) => number + 1),
  };
}
