/** The organization's budget of this month, asked for again while the app is open. */
import { computed } from "@preact/signals";
import { api, read, type Schemas } from "../api/client";
import { organization, perUser } from "../api/session";

export type Budget = Schemas["BudgetOut"];

const AGAIN_MS = 60_000;
const KEY = "footnote-budget-alert";

export const budget = perUser<Budget | null>(null);
const dismissed = perUser<string | null>(null);

export async function loadBudget(): Promise<void> {
  budget.value = await read(api.GET("/api/v1/budget"));
}

/** Leaves what is known when the server can't be reached. Returns what ends it. */
export function watchBudget(): () => void {
  const ask = () => document.visibilityState === "visible" && void loadBudget().catch(() => undefined);
  ask();
  const timer = setInterval(ask, AGAIN_MS);
  return () => clearInterval(timer);
}

/** Which alert holds: 80 or 100 percent of the limit are spent. Null: neither, or it was dismissed for this month. */
export const budgetAlert = computed<80 | 100 | null>(() => {
  const percent = budget.value?.percent ?? null;
  const level = percent === null || percent < 80 ? null : percent < 100 ? 80 : 100;
  return level === null || (dismissed.value ?? stored()) === nameOf(level) ? null : level;
});

/** Until the next month, or the next alert. */
export function dismissAlert(level: 80 | 100): void {
  dismissed.value = nameOf(level);
  try {
    localStorage.setItem(KEY, nameOf(level));
  } catch {
    // A browser that keeps nothing shows it again after a reload.
  }
}

const nameOf = (level: number): string => `${organization.value?.id} ${budget.value?.resets_at} ${level}`;

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
