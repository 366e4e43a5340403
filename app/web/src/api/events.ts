/**
 * A native `EventSource` that does not give up. The browser itself comes back after a cut, with
 * `Last-Event-ID`; it gives up for good on any status but 200, such as 401 once the address has
 * expired, or 204 after the end. Then a new address is asked for, ever more slowly.
 *
 * It rests while the tab is hidden: a browser has six connections to a server for all its tabs, and
 * streams of tabs that nobody looks at would take them from the one that somebody does.
 */
import { ApiError } from "./errors";

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
  /** Whether the stream is cut, when that changes. A rest is none. */
  onCut?: (isCut: boolean) => void;
  /** The stream is open, for the first time or after a cut or a rest. */
  onOpen?: () => void;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
// The server says something every 15 s: a line that is silent for longer was cut without a word.
const SILENT_MS = 40_000;
// Who only looks something up in another tab finds all as it was.
const REST_AFTER_MS = 10_000;

type Timer = ReturnType<typeof setTimeout> | undefined;

/** Reads until the returned function is called, or `open` says that there is no more. */
export function readEvents({ open, onFrame, onCut, onOpen }: Reading): () => void {
  let source: EventSource | null = null;
  let retry: Timer;
  let silence: Timer;
  let rest: Timer;
  let waitMs = FIRST_WAIT_MS;
  let after: number | null = null;
  let isCut = false;
  let isResting = document.visibilityState === "hidden";
  /** Goes up with each connection: what an older one still says doesn't count. */
  let connection = 0;

  function say(cut: boolean) {
    if (cut === isCut) return;
    isCut = cut;
    onCut?.(cut);
  }

  function disconnect() {
    connection += 1;
    clearTimeout(retry);
    clearTimeout(silence);
    source?.close();
    retry = undefined;
    source = null;
  }

  async function connect() {
    disconnect();
    isResting = false;
    const mine = connection;
    let url: string | null;
    try {
      url = await open(after);
    } catch (error) {
      if (mine === connection) connectLater(error instanceof ApiError ? error.retryAfterS : null);
      return;
    }
    if (mine !== connection) return;
    if (url === null) return close();
    const opened = new EventSource(after === null ? url : `${url}&after=${after}`);
    source = opened;
    opened.onopen = () => {
      listen();
      say(false);
      onOpen?.();
    };
    opened.onmessage = (message) => {
      listen();
      waitMs = FIRST_WAIT_MS;
      if (message.lastEventId) after = Number(message.lastEventId);
      onFrame(JSON.parse(message.data as string) as Frame);
    };
    opened.onerror = () => {
      say(true);
      if (opened.readyState === EventSource.CLOSED) connectLater();
    };
  }

  function listen() {
    clearTimeout(silence);
    silence = setTimeout(connectLater, SILENT_MS);
  }

  function connectLater(leastS: number | null = null) {
    disconnect();
    say(true);
    retry = setTimeout(() => void connect(), Math.max(waitMs, 1000 * (leastS ?? 0)));
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
  }

  function sleep() {
    disconnect();
    isResting = true;
  }

  /** The network is back, or somebody looks, or nobody any more. */
  function look() {
    clearTimeout(rest);
    if (document.visibilityState === "hidden") rest = setTimeout(sleep, REST_AFTER_MS);
    else if (isResting || retry !== undefined) void connect();
  }

  function close() {
    disconnect();
    clearTimeout(rest);
    window.removeEventListener("online", look);
    document.removeEventListener("visibilitychange", look);
  }

  window.addEventListener("online", look);
  document.addEventListener("visibilitychange", look);
  if (!isResting) void connect();
  return close;
}
