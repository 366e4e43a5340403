/**
 * Who is signed in. The access token lives in this module's memory alone; the refresh token is a
 * cookie that no script can read.
 */
import { computed, signal } from "@preact/signals";
import { ApiError, toApiError, unreachable } from "./errors";
import type { components } from "./schema";

export type Session = components["schemas"]["WebSession"];

const PATH = "/api/v1/session";
// Refreshed a minute before it expires, so that no request has to wait.
const EARLY_S = 60;

/** undefined: not known yet; null: nobody is signed in. */
const session = signal<Session | null | undefined>(undefined);
export const user = computed(() => session.value?.user ?? null);
export const organization = computed(() => session.value?.organization ?? null);
export const isKnown = computed(() => session.value !== undefined);

const tabs = new BroadcastChannel("footnote-session");
let timer: ReturnType<typeof setTimeout> | undefined;
let refreshing: Promise<boolean> | null = null;

tabs.onmessage = (message) => {
  if (message.data === "signed-out") set(null);
  else if (message.data === "signed-in" && !session.value) void refresh();
};

export async function signIn(email: string, password: string): Promise<void> {
  set(await post("", { email, password }));
  tabs.postMessage("signed-in");
}

export async function register(email: string, password: string, name: string): Promise<void> {
  set(await post("/register", { email, password, name }));
  tabs.postMessage("signed-in");
}

export async function changePassword(current: string, next: string): Promise<void> {
  set(await post("/password", { current_password: current, new_password: next }));
}

/** Ends this sign-in, here and in the other tabs. Signed out even if the server can't be told. */
export async function signOut(): Promise<void> {
  try {
    await send("DELETE", "");
  } finally {
    set(null);
    tabs.postMessage("signed-out");
  }
}

/** A new access token from the cookie. False: nobody is signed in. Throws when it can't be known. */
export function refresh(): Promise<boolean> {
  // Several requests may find the token expired. Two tabs may refresh at once: the server knows.
  refreshing ??= post("/refresh")
    .then(
      (next) => {
        set(next);
        return true;
      },
      (error: unknown) => {
        if (!(error instanceof ApiError) || error.status !== 401) throw error;
        set(null);
        return false;
      },
    )
    .finally(() => (refreshing = null));
  return refreshing;
}

/** Takes a changed name over, without a new token. */
export function updateUser(changed: Session["user"]): void {
  if (session.value) session.value = { ...session.value, user: changed };
}

/**
 * `fetch` with the access token. On 401 it refreshes once and tries again; then nobody is signed in.
 * Throws ApiError `unreachable` without an answer; any status is an answer.
 */
export async function authorizedFetch(request: Request): Promise<Response> {
  const again = request.clone();
  const response = await attempt(request);
  if (response.status !== 401 || !(await refresh())) return response;
  return attempt(again);
}

/** For what can't go through `fetch`: an upload that tells how far it is. */
export function accessToken(): string | null {
  return session.value?.access_token ?? null;
}

async function attempt(request: Request): Promise<Response> {
  if (session.value) request.headers.set("Authorization", `Bearer ${session.value.access_token}`);
  try {
    return await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    throw unreachable();
  }
}

function set(next: Session | null): void {
  clearTimeout(timer);
  session.value = next;
  if (next) timer = setTimeout(() => void refresh().catch(() => undefined), (next.expires_in - EARLY_S) * 1000);
}

async function post(path: string, body: object = {}): Promise<Session> {
  const response = await send("POST", path, body);
  return (await response.json()) as Session;
}

async function send(method: string, path: string, body?: object): Promise<Response> {
  const headers: Record<string, string> = { "X-Footnote-Web": "1" };
  if (body) headers["Content-Type"] = "application/json";
  const token = accessToken();
  if (token) headers.Authorization = `Bearer ${token}`;
  let response: Response;
  try {
    response = await fetch(PATH + path, { method, headers, body: body ? JSON.stringify(body) : null });
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw toApiError(response, await response.json().catch(() => null));
  return response;
}
