/** Work that waits for its turn, because only so much of it is done at once. */
import { ApiError } from "../api/errors";

interface Waiting {
  start: () => void;
  /** How far it is from what the person looks at; the least goes first. */
  distance: () => number;
}

type TakeTurn = <T>(work: () => Promise<T>, distance: () => number, signal: AbortSignal) => Promise<T>;

const COURTESY_MS = 50;

/** At most `places` works at once. What is aborted while it waits never begins. */
export function makeTurns(places: number): TakeTurn {
  const waiting = new Set<Waiting>();
  let free = places;

  function startNext() {
    const [next] = [...waiting].sort((one, other) => one.distance() - other.distance());
    if (!next || free === 0) return;
    waiting.delete(next);
    free -= 1;
    next.start();
  }

  return async (work, distance, signal) => {
    signal.throwIfAborted();
    await new Promise<void>((start, giveUp) => {
      const entry: Waiting = { start, distance };
      waiting.add(entry);
      signal.addEventListener("abort", () => waiting.delete(entry) && giveUp(signal.reason), { once: true });
      // Of the pages that come into view together the one that is looked at is not always the first to ask.
      setTimeout(startNext, distance() === 0 ? 0 : COURTESY_MS);
    });
    try {
      signal.throwIfAborted();
      return await work();
    } finally {
      free += 1;
      startNext();
    }
  };
}

const MOST_ATTEMPTS = 8;
const WAIT_S = 2;
const LONGEST_WAIT_S = 60;
/** Too many requests, busy, and not reached. */
const PASSING = new Set([429, 503, 0]);

/** Asks again after the time that a busy server names, or when the network is back. Throws what else went wrong. */
export async function whenFree<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof ApiError) || !PASSING.has(error.status) || attempt === MOST_ATTEMPTS) throw error;
      const waitS = error.retryAfterS ?? WAIT_S;
      if (waitS > LONGEST_WAIT_S) throw error;
      await pause(1000 * waitS, signal);
    }
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    function stop() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    signal.addEventListener("abort", stop, { once: true });
  });
}

export class TookTooLong extends Error {}

/**
 * Rejects with TookTooLong after the time; the work itself goes on. Only the time in which this
 * tab is visible counts: in a hidden one nothing is drawn.
 */
export function within<T>(seconds: number, work: Promise<T>): Promise<T> {
  let left = seconds;
  let timer: ReturnType<typeof setInterval> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      if (document.visibilityState === "visible") left -= 1;
      if (left <= 0) reject(new TookTooLong());
    }, 1000);
  });
  return Promise.race([work, late]).finally(() => clearInterval(timer));
}
