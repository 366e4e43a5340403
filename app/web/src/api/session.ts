/**
 * Who is signed in. The access token lives in this module's memory alone; the refresh token is a
 * cookie that no script can read.
 */
import { computed, effect, type Signal, signal, untracked } from "@preact/signals";
import { ApiError, toApiError, unreachable } from "./errors";
import type { components } from "./schema";

type Session = components["schemas"]["WebSession"];

const PATH = "/api/v1/session";
// Refreshed a minute before it expires, so that no request has to wait.
const EARLY_S = 60;

/** undefined: not known yet; null: nobody is signed in. */
const session = signal<Session | null | undefined>(undefined);
export const user = computed(() => session.value?.user ?? null);
export const organization = computed(() => session.value?.organization ?? null);
/** Who one is and where: what the API shows belongs to both. Null: nobody is signed in. */
export const principalId = computed(() => session.value && `${session.value.user.id}@${session.value.organization.id}`);
export type Permission = Session["organization"]["permissions"][number];

/** Whether the role in the present organization allows it. */
export const may = (permission: Permission): boolean => organization.value?.permissions.includes(permission) ?? false;
export const isKnown = computed(() => session.value !== undefined);

const tabs = new BroadcastChannel("footnote-session");
let timer: ReturnType<typeof setTimeout> | undefined;
let refreshing: Promise<boolean> | null = null;

/** Tells who is signed in now, and where (null: nobody): the cookie is that person's in all tabs. */
tabs.onmessage = ({ data: id }) => {
  if (id === null) set(null);
  else if (id !== principalId.peek()) void refresh().catch(() => undefined);
};

export async function signIn(email: string, password: string): Promise<void> {
  enter(await post("", { email, password }));
}

export async function register(email: string, password: string, name: string): Promise<void> {
  enter(await post("/register", { email, password, name }));
}

function enter(next: Session): void {
  set(next);
  tabs.postMessage(principalId.peek());
}

/** Goes on in another organization, in all tabs. */
export async function switchOrganization(id: string): Promise<void> {
  // The cookie that a refresh on its way brings would take the sign-in back.
  await refreshing?.catch(() => undefined);
  enter(await post("/switch", { organization_id: id }));
}

export async function changePassword(current: string, next: string): Promise<void> {
  set(await post("/password", { current_password: current, new_password: next }));
}

/** Ends this sign-in, here and in the other tabs. Signed out even if the server can't be told. */
export async function signOut(): Promise<void> {
  await refreshing?.catch(() => undefined);
  try {
    await send("DELETE", "");
  } finally {
    set(null);
    tabs.postMessage(null);
  }
}

/** A new access token from the cookie. False: nobody is signed in. Throws when it can't be known. */
export function refresh(): Promise<boolean> {
  // Several requests may find the token expired. Two tabs may refresh at once: the server knows.
  refreshing ??= askForSession().finally(() => (refreshing = null));
  return refreshing;
}

async function askForSession(): Promise<boolean> {
  const before = session.peek();
  const next = await postRefresh().catch((error: unknown) => {
    if (error instanceof ApiError && error.status === 401) return null;
    throw error;
  });
  // Somebody may have signed in or out meanwhile.
  if (before === session.peek()) set(next);
  return session.peek() != null;
}

/** After a 401: whether there is a new token of the same principal, so that the request may be sent again. */
export async function canSendAgain(sender: string | null | undefined): Promise<boolean> {
  return (await refresh()) && principalId.peek() === sender;
}

/** What one person's page knows: becomes `initial` again when somebody else signs in, or they switch. */
export function perUser<T>(initial: T): Signal<T> {
  const known = signal(initial);
  onOtherUser(() => (known.value = initial));
  return known;
}

/**
 * Calls `forget` when somebody else signs in than before, or goes on in another organization; the same
 * person there finds everything again.
 */
export function onOtherUser(forget: () => void): void {
  let last: string | null = null;
  effect(() => {
    const id = principalId.value ?? null;
    if (id === null || id === last) return;
    if (last !== null) untracked(forget);
    last = id;
  });
}

/** Takes a changed name over, without a new token. */
export function updateUser(changed: Session["user"]): void {
  if (session.value) session.value = { ...session.value, user: changed };
}

/** As `updateUser`. */
export function renameOrganization(name: string): void {
  if (session.value) session.value = { ...session.value, organization: { ...session.value.organization, name } };
}

/**
 * `fetch` with the access token. On 401 it refreshes once and tries again; then nobody is signed in.
 * Throws ApiError `unreachable` without an answer; any status is an answer.
 */
export async function authorizedFetch(request: Request): Promise<Response> {
  const sender = principalId.peek();
  const again = request.clone();
  let response = await attempt(request);
  if (response.status === 401 && (await canSendAgain(sender))) response = await attempt(again);
  // Whoever has signed in meanwhile must not see it.
  if (response.ok && principalId.peek() !== sender) throw new ApiError("You were signed out.", "signed_out", 401);
  return response;
}

/** For what can't go through `fetch`: an upload that tells how far it is. */
export function accessToken(): string | null {
  return session.peek()?.access_token ?? null;
}

async function attempt(request: Request): Promise<Response> {
  const token = accessToken();
  if (token) request.headers.set("Authorization", `Bearer ${token}`);
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
  if (!next) return;
  const waitS = Math.max(next.expires_in - EARLY_S, next.expires_in / 2);
  timer = setTimeout(() => void refresh().catch(() => undefined), 1000 * waitS);
}

async function post(path: string, body: object = {}): Promise<Session> {
  const response = await send("POST", path, body);
  return (await response.json()) as Session;
}

/** Null: there is no cookie. */
async function postRefresh(): Promise<Session | null> {
  const response = await send("POST", "/refresh", {});
  return response.status === 204 ? null : ((await response.json()) as Session);
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
