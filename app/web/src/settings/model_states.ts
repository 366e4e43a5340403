/** What people call how a model or its provider is doing. */
import { stateName } from "../api/models";

const BREAKER = new Map([
  ["open", "Held back"],
  ["half_open", "Being tried"],
]);
const KINDS: Record<string, "ready" | "failed" | "processing"> = {
  ...{ ok: "ready", open: "failed", half_open: "processing", unreachable: "failed", unusable: "failed" },
};

/** A breaker that is open holds calls back for a while after failures. */
export const breakerName = (state: string): string => BREAKER.get(state) ?? stateName(state);

export const stateKind = (state: string) => KINDS[state] ?? "queued";

/** "rate_limited" is "rate limited". */
export const failureName = (kind: string): string => kind.replaceAll("_", " ");
