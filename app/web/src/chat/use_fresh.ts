import { useEffect } from "preact/hooks";
import { loadThread } from "./reading";
import type { Thread } from "./thread";

// Focus and visibility come together.
const AT_MOST_EVERY_MS = 1000;

/** Loads what another tab has asked when this one is looked at again. */
export function useFresh(thread: Thread): void {
  useEffect(() => {
    let last = Date.now();
    function look() {
      const isIdle =
        thread.writing.peek() === null && thread.asking.peek() === null && thread.loading.peek() === "ready";
      if (document.visibilityState !== "visible" || !isIdle || Date.now() - last < AT_MOST_EVERY_MS) return;
      last = Date.now();
      void loadThread(thread);
    }
    window.addEventListener("focus", look);
    window.addEventListener("online", look);
    document.addEventListener("visibilitychange", look);
    return () => {
      window.removeEventListener("focus", look);
      window.removeEventListener("online", look);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
}
