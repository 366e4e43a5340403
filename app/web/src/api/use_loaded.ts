import { useEffect, useState } from "preact/hooks";

export interface Loaded<T> {
  /** What came last; stays while it is loaded anew, and when that fails. */
  data: T | undefined;
  /** Why the last loading failed; stays until one succeeds or `reload` is called. */
  error: unknown;
  reload: () => void;
}

/** What `load` gives, asked for again whenever one of `inputs` changes. An answer that comes too late is dropped. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, inputs: readonly unknown[] = []): Loaded<T> {
  const [data, setData] = useState<T>();
  const [error, setError] = useState<unknown>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    load(stop.signal).then(
      (loaded) => {
        if (stop.signal.aborted) return;
        setData(() => loaded);
        setError(null);
      },
      (reason: unknown) => stop.signal.aborted || setError(reason),
    );
    return () => stop.abort();
  }, [...inputs, attempt]);
  function reload() {
    setError(null);
    setAttempt((number) => number + 1);
  }
  return { data, error, reload };
}
