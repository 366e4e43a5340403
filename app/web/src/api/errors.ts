/** What the API says went wrong, or that it could not be reached. */
export class ApiError extends Error {
  constructor(
    message: string,
    /** Machine-readable, like `too_large`; `unreachable` when there was no answer. */
    readonly code: string,
    /** HTTP status; 0 when there was no answer. */
    readonly status: number,
    /** Seconds to wait before trying again, when the server said so. */
    readonly retryAfterS: number | null = null,
    readonly requestId: string | null = null,
  ) {
    super(message);
  }
}

interface ErrorBody {
  error?: { code?: unknown; message?: unknown };
  metadata?: { request_id?: unknown };
}

/** Reads the API's one error body; anything else becomes a sentence of our own. */
export function toApiError(response: Response, body: unknown): ApiError {
  const { error, metadata } = (typeof body === "object" && body !== null ? body : {}) as ErrorBody;
  const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
  return new ApiError(
    typeof error?.message === "string" ? error.message : `The server answered ${response.status}.`,
    typeof error?.code === "string" ? error.code : "unexpected",
    response.status,
    Number.isFinite(retryAfter) ? retryAfter : null,
    typeof metadata?.request_id === "string" ? metadata.request_id : null,
  );
}

export function unreachable(): ApiError {
  return new ApiError("Footnote can't be reached. Check that it is running and that you are online.", "unreachable", 0);
}

/** There is no such thing (any more), or that is no id at all. */
export const isGone = (error: unknown): boolean =>
  error instanceof ApiError && (error.status === 404 || error.status === 422);

/** One sentence for a person, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof ApiError ? error.message : "Something went wrong in this page. Reload it and try again.";
}
