import type { Schemas } from "../api/client";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Banner } from "../ui/states";
import { Copyable } from "./copyable";

export type NewSecret = Schemas["WebhookWithSecret"];

const SAMPLE = `from standardwebhooks import Webhook

event = Webhook(SECRET).verify(request_body, request_headers)`;

/** The one time that a secret is shown, with what it is for. */
export function SecretDialog({ created: { secret, url }, onClose }: { created: NewSecret; onClose: () => void }) {
  const actions = (
    <Button kind="primary" onClick={onClose}>
      Done
    </Button>
  );
  return (
    <Dialog title="The secret of your webhook" onClose={onClose} actions={actions}>
      <p class="webhook-url">{url}</p>
      <Banner kind="warning">Copy the secret now: it is shown only this once.</Banner>
      <Copyable label="Secret" action="Copy secret" text={secret} />
      <p>
        Each request is signed with it, as Standard Webhooks says. Verify that before you believe one, with one of its
        libraries:
      </p>
      <div class="once" role="group" aria-label="Sample">
        <pre>{SAMPLE}</pre>
      </div>
      <p class="faint">
        Without a library: the header <code>webhook-signature</code> holds <code>v1,</code> and the base64 of
        HMAC-SHA256 over <code>webhook-id.webhook-timestamp.body</code>; its key is the base64 behind{" "}
        <code>whsec_</code>.
      </p>
    </Dialog>
  );
}
