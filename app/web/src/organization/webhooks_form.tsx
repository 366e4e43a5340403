import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Field } from "../ui/field";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import { EVENTS, isEvent, type Webhook, type WebhookEvent } from "./webhooks_events";
import type { NewSecret } from "./webhooks_secret";

interface FormProps {
  /** What is changed; without it a new one is added. */
  webhook?: Webhook;
  onClose: () => void;
  onAdded?: (created: NewSecret) => void;
  onChanged?: () => void;
}

export function WebhookForm({ webhook, onClose, onAdded, onChanged }: FormProps) {
  const [url, setUrl] = useState(webhook?.url ?? "");
  const [description, setDescription] = useState(webhook?.description ?? "");
  const [events, setEvents] = useState<readonly WebhookEvent[]>(webhook?.events.filter(isEvent) ?? []);
  const { isBusy, error, run } = useAction(async () => {
    const body = { url: url.trim(), description: description.trim(), events: [...events] };
    if (!webhook) return onAdded?.(await read(api.POST("/api/v1/webhooks", { body })));
    const params = { path: { webhook_id: webhook.id } };
    await read(api.PATCH("/api/v1/webhooks/{webhook_id}", { params, body }));
    tell("The webhook is changed.");
    onChanged?.();
  });
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button type="submit" form="webhook-form" kind="primary" isBusy={isBusy} disabled={!url.trim() || !events.length}>
        {webhook ? "Save" : "Add webhook"}
      </Button>
    </>
  );
  return (
    <Dialog title={webhook ? "Change the webhook" : "New webhook"} onClose={onClose} actions={actions} error={error}>
      <form id="webhook-form" class="form" onSubmit={run}>
        <Field
          label="URL"
          type="url"
          maxLength={2000}
          placeholder="https://example.com/footnote"
          required
          value={url}
          onInput={(event) => setUrl(event.currentTarget.value)}
        />
        <Field
          label="Description"
          hint="If you like: what it is for."
          dir="auto"
          maxLength={200}
          value={description}
          onInput={(event) => setDescription(event.currentTarget.value)}
        />
        <EventChoice chosen={events} onChange={setEvents} />
      </form>
    </Dialog>
  );
}

interface ChoiceProps {
  chosen: readonly WebhookEvent[];
  onChange: (events: readonly WebhookEvent[]) => void;
}

function EventChoice({ chosen, onChange }: ChoiceProps) {
  return (
    <fieldset>
      <legend>When</legend>
      {EVENTS.map(({ event, name }) => (
        <label key={event} class="check">
          <input
            type="checkbox"
            checked={chosen.includes(event)}
            onChange={({ currentTarget }) =>
              onChange(currentTarget.checked ? [...chosen, event] : chosen.filter((each) => each !== event))
            }
          />
          <span>
            {name} <code class="faint">{event}</code>
          </span>
        </label>
      ))}
    </fieldset>
  );
}
