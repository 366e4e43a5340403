import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Banner } from "../ui/states";
import type { NewKey } from "./api_keys_section";
import { Copyable } from "./copyable";

/** The one time that a key is shown, with how it is used. */
export function KeySecret({ created: { key, name, scope }, onClose }: { created: NewKey; onClose: () => void }) {
  const sample = scope === "read" ? listing(key) : question(key);
  const actions = (
    <Button kind="primary" onClick={onClose}>
      Done
    </Button>
  );
  return (
    <Dialog title={`Your key “${name}”`} onClose={onClose} actions={actions}>
      <Banner kind="warning">Copy the key now: it is shown only this once.</Banner>
      <Copyable label="API key" action="Copy key" text={key} />
      <p>To try it:</p>
      <Copyable label="Sample" action="Copy sample" text={sample} />
      {scope !== "read" && (
        <p class="faint">Clients of the OpenAI API take the address {window.location.origin}/v1 and this key.</p>
      )}
    </Dialog>
  );
}

const listing = (key: string): string =>
  `curl ${window.location.origin}/api/v1/documents \\\n  -H "Authorization: Bearer ${key}"`;

const question = (key: string): string =>
  `curl ${window.location.origin}/api/v1/chat/ \\
  -H "Authorization: Bearer ${key}" \\
  -H "Content-Type: application/json" \\
  -d '{"messages": [{"role": "user", "content": "What do my documents say?"}]}'`;
