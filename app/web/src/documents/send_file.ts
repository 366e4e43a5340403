/** One file on its way. XMLHttpRequest, for `fetch` doesn't tell how far it is. */
import { ApiError, toApiError, unreachable } from "../api/errors";
import { accessToken, canSendAgain, principalId } from "../api/session";

interface Sending {
  method: "POST" | "PUT";
  path: string;
  file: File;
  /** Undefined: as the document has it. */
  visibility?: "shared" | "private";
  /** The same for each attempt: the file is stored once. */
  idempotencyKey: string;
  /** 0..1 of the bytes. */
  onSent: (share: number) => void;
  signal: AbortSignal;
}

/** The server's answer. Throws ApiError; `unreachable` also when the connection broke. */
export async function sendFile(sending: Sending): Promise<unknown> {
  const sender = principalId.peek();
  try {
    return await attempt(sending);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401 || !(await canSendAgain(sender))) throw error;
    return attempt(sending);
  }
}

function attempt({ method, path, file, visibility, idempotencyKey, onSent, signal }: Sending): Promise<unknown> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(cancelled());
    const request = new XMLHttpRequest();
    request.open(method, path);
    const token = accessToken();
    if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.setRequestHeader("Idempotency-Key", idempotencyKey);
    request.upload.onprogress = ({ loaded, total }) => onSent(total ? loaded / total : 0);
    request.onload = () => settle(request, resolve, reject);
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(cancelled());
    signal.addEventListener("abort", () => request.abort(), { once: true });
    const form = new FormData();
    if (visibility === "private") form.append("visibility", visibility);
    form.append("file", file, file.name);
    request.send(form);
  });
}

function settle(request: XMLHttpRequest, resolve: (answer: unknown) => void, reject: (error: ApiError) => void): void {
  const body = parse(request.responseText);
  if (request.status >= 200 && request.status < 300) {
    resolve(body);
    return;
  }
  const retryAfter = request.getResponseHeader("Retry-After");
  const headers = retryAfter ? { "Retry-After": retryAfter } : undefined;
  reject(toApiError(new Response(null, { status: request.status || 500, ...(headers && { headers }) }), body));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

const cancelled = () => new ApiError("This upload was cancelled.", "cancelled", 0);
