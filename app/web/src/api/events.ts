/**
 * A native `EventSource` that does not give up. The browser itself comes back after a cut, with
 * `Last-Event-ID`; it gives up for good on any status but 200, such as 401 once the address has
 * expired, or 204 after the end. Then a new address is asked for, ever more slowly.
 */
export interface Frame {
  type: string;
  [field: string]: unknown;
}

interface Reading {
  /**
   * A new address of the stream, to go on behind event `after` (null: from the beginning). Null
   * ends the reading: there is nothing more to come. What it throws is tried again.
   */
  open: (after: number | null) => Promise<string | null>;
  onFrame: (frame: Frame) => void;
  /** Whether the stream is cut, when that changes. */
  onCut?: (isCut: boolean) => void;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
// The server says something every 15 s: a line that is silent for longer was cut without a word.
const SILENT_MS = 40_000;

/** Reads until the returned function is called, or `open` says that there is no more. */
export function readEvents({ open, onFrame, onCut }: Reading): () => void {
  let source: EventSource | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let silence: ReturnType<typeof setTimeout> | undefined;
  let waitMs = FIRST_WAIT_MS;
  let after: number | null = null;
  let isCut = false;
  let isClosed = false;

  function say(cut: boolean) {
    if (cut === isCut) return;
    isCut = cut;
    onCut?.(cut);
  }

  async function connect() {
    clearTimeout(timer);
    timer = undefined;
    let url: string | null;
    try {
      url = await open(after);
    } catch {
      return connectLater();
    }
    if (isClosed) return;
    if (url === null) return close();
    source = new EventSource(after === null ? url : `${url}&after=${after}`);
    source.onopen = () => {
      listen();
      say(false);
    };
    source.onmessage = (message) => {
      listen();
      waitMs = FIRST_WAIT_MS;
      if (message.lastEventId) after = Number(message.lastEventId);
      onFrame(JSON.parse(message.data as string) as Frame);
    };
    source.onerror = () => {
      say(true);
      if (source?.readyState === EventSource.CLOSED) connectLater();
    };
  }

  function listen() {
    clearTimeout(silence);
    silence = setTimeout(() => {
      source?.close();
      connectLater();
    }, SILENT_MS);
  }

  function connectLater() {
    clearTimeout(silence);
    if (isClosed) return;
    say(true);
    timer = setTimeout(() => void connect(), waitMs);
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
  }

  function connectNow() {
    if (timer !== undefined && document.visibilityState === "visible") void connect();
  }

  function close() {
    isClosed = true;
    clearTimeout(timer);
    clearTimeout(silence);
    source?.close();
    window.removeEventListener("online", connectNow);
    document.removeEventListener("visibilitychange", connectNow);
  }

  window.addEventListener("online", connectNow);
  document.addEventListener("visibilitychange", connectNow);
  void connect();
  return close;
}
