import { useState } from "preact/hooks";

/** What a button or a form does: whether it is under way, and why it failed last. Null: it did not. */
export function useAction(act: () => Promise<unknown>) {
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  async function run(event?: Event) {
    event?.preventDefault();
    setBusy(true);
    setError(null);
    await act().catch(setError);
    setBusy(false);
  }
  return { isBusy, error, run: (event?: Event) => void run(event) };
}
