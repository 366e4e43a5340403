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

/** The bytes behind an address of the API, such as a page image. Throws ApiError. */
export async function readBlob(path: string, signal?: AbortSignal): Promise<Blob> {
  const response = await authorizedFetch(new Request(path, { signal: signal ?? null }));
  if (!response.ok) throw toApiError(response, await response.json().catch(() => null));
  return response.blob();
}
