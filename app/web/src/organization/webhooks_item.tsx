import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { Badge } from "../documents/status";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Menu, type MenuItem } from "../ui/menu";
import { tell, tellError } from "../ui/toast";
import { useAction } from "../ui/use_action";
import type { Webhook } from "./webhooks_events";
import { WebhookForm } from "./webhooks_form";
import { DeliveryLog } from "./webhooks_log";
import type { NewSecret } from "./webhooks_secret";

interface ItemProps {
  webhook: Webhook;
  onChange: () => void;
  onSecret: (secret: NewSecret) => void;
}

type Step = "change" | "renew" | "delete";

export function WebhookItem({ webhook, onChange, onSecret }: ItemProps) {
  const { id, url, description, events, is_active } = webhook;
  const [isOpen, setOpen] = useState(false);
  const [tests, setTests] = useState(0);
  const [step, setStep] = useState<Step | null>(null);
  const params = { path: { webhook_id: id } };
  function done() {
    setStep(null);
    onChange();
  }
  async function test() {
    try {
      await read(api.POST("/api/v1/webhooks/{webhook_id}/test", { params }));
      setTests(tests + 1);
      setOpen(true);
    } catch (error) {
      tellError(error);
    }
  }
  async function toggle() {
    try {
      await read(api.PATCH("/api/v1/webhooks/{webhook_id}", { params, body: { is_active: !is_active } }));
      tell(is_active ? "The webhook is off." : "The webhook is on.");
      onChange();
    } catch (error) {
      tellError(error);
    }
  }
  const items: MenuItem[] = [
    { label: "Send a test", icon: "send", isDisabled: !is_active, onSelect: () => void test() },
    { label: "Change", icon: "edit", onSelect: () => setStep("change") },
    {
      label: is_active ? "Switch off" : "Switch on",
      icon: is_active ? "stop" : "check",
      onSelect: () => void toggle(),
    },
    { label: "Renew the secret", icon: "retry", onSelect: () => setStep("renew") },
    { label: "Delete", icon: "trash", isDanger: true, onSelect: () => setStep("delete") },
  ];
  return (
    <li aria-label={url}>
      <div class="webhook-head">
        <div>
          <p class="webhook-url">{url}</p>
          {description && <p dir="auto">{description}</p>}
          <p class="faint">{events.join(", ")}</p>
        </div>
        <Badge kind={is_active ? "ready" : "queued"}>{is_active ? "On" : "Off"}</Badge>
        <Menu label={`Actions for ${url}`} items={items} />
      </div>
      <Button
        kind="quiet"
        icon={isOpen ? "chevron-down" : "chevron-right"}
        aria-expanded={isOpen}
        onClick={() => setOpen(!isOpen)}
      >
        Deliveries
      </Button>
      {isOpen && <DeliveryLog key={tests} webhookId={id} isActive={is_active} />}
      {step === "change" && <WebhookForm webhook={webhook} onClose={() => setStep(null)} onChanged={done} />}
      {step === "renew" && <RenewDialog webhook={webhook} onClose={() => setStep(null)} onSecret={onSecret} />}
      {step === "delete" && <DeleteDialog webhook={webhook} onClose={() => setStep(null)} onDeleted={done} />}
    </li>
  );
}

interface RenewProps {
  webhook: Webhook;
  onClose: () => void;
  onSecret: (secret: NewSecret) => void;
}

function RenewDialog({ webhook: { id, url }, onClose, onSecret }: RenewProps) {
  const { isBusy, error, run } = useAction(async () => {
    const params = { path: { webhook_id: id } };
    const renewed = await read(api.POST("/api/v1/webhooks/{webhook_id}/secret", { params }));
    onClose();
    onSecret(renewed);
  });
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind="primary" isBusy={isBusy} onClick={run}>
        Renew the secret
      </Button>
    </>
  );
  return (
    <Dialog title="Renew the secret?" onClose={onClose} actions={actions} error={error}>
      <p class="webhook-url">{url}</p>
      <p>For 24 hours requests are signed with the old secret, too. Change it at the receiver within that time.</p>
    </Dialog>
  );
}

interface DeleteProps {
  webhook: Webhook;
  onClose: () => void;
  onDeleted: () => void;
}

function DeleteDialog({ webhook: { id, url }, onClose, onDeleted }: DeleteProps) {
  const { isBusy, error, run } = useAction(async () => {
    await read(api.DELETE("/api/v1/webhooks/{webhook_id}", { params: { path: { webhook_id: id } } }));
    tell("The webhook is deleted.");
    onDeleted();
  });
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind="danger" isBusy={isBusy} onClick={run}>
        Delete
      </Button>
    </>
  );
  return (
    <Dialog title="Delete the webhook?" onClose={onClose} actions={actions} error={error}>
      <p class="webhook-url">{url}</p>
      <p>Its log is deleted, too. What is not delivered yet never will be.</p>
    </Dialog>
  );
}
