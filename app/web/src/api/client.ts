/** The API, typed by its own OpenAPI document. */
import createClient from "openapi-fetch";
import { toApiError } from "./errors";
import type { components, paths } from "./schema";
import { authorizedFetch } from "./session";

export type Schemas = components["schemas"];

export const api = createClient<paths>({ baseUrl: window.location.origin, fetch: authorizedFetch });

/** The body of an answer: `await read(api.GET(…))`. Throws ApiError for any status above 299. */
export async function read<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await answer;
  if (!response.ok) throw toApiError(response, error);
  return data as T;
}

/** What lies at a path of the API that is no JSON, such as a file. Throws ApiError for any status above 299. */
export async function get(path: string, options: RequestInit = {}): Promise<Response> {
  const response = await authorizedFetch(new Request(path, options));
  if (!response.ok) throw toApiError(response, await response.json().catch(() => null));
  return response;
}

/** A new `Idempotency-Key`. `crypto.randomUUID` is for pages over https and on loopback alone. */
export function newIdempotencyKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
