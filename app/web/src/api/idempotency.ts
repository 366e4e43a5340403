/** A new `Idempotency-Key`. `crypto.randomUUID` is for pages over https and on loopback alone. */
export function newIdempotencyKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
