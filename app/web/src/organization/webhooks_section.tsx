import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { Button } from "../ui/button";
import { EmptyState, ErrorState, Loading } from "../ui/states";
import type { Webhook } from "./webhooks_events";
import { WebhookForm } from "./webhooks_form";
import { WebhookItem } from "./webhooks_item";
import { type NewSecret, SecretDialog } from "./webhooks_secret";
import "./organization.css";
import "./webhooks.css";

/** For who manages the organization. */
export function WebhooksSection() {
  const { data, error, reload } = useLoaded((signal) => read(api.GET("/api/v1/webhooks", { signal })));
  const [isAdding, setAdding] = useState(false);
  const [secret, setSecret] = useState<NewSecret | null>(null);
  function onAdded(created: NewSecret) {
    setAdding(false);
    setSecret(created);
    reload();
  }
  return (
    <section class="card webhooks" aria-labelledby="webhooks-title">
      <header class="card-head">
        <h2 id="webhooks-title">Webhooks</h2>
        <Button kind="primary" icon="plus" onClick={() => setAdding(true)}>
          New webhook
        </Button>
      </header>
      <p class="section-note">
        Footnote posts to these addresses when something happens, and tries again for 24 hours.
      </p>
      {error ? (
        <ErrorState error={error} onRetry={reload} />
      ) : data ? (
        <Webhooks items={data.items} onChange={reload} onSecret={setSecret} />
      ) : (
        <Loading />
      )}
      {isAdding && <WebhookForm onClose={() => setAdding(false)} onAdded={onAdded} />}
      {secret && <SecretDialog created={secret} onClose={() => setSecret(null)} />}
    </section>
  );
}

interface WebhooksProps {
  items: readonly Webhook[];
  onChange: () => void;
  onSecret: (secret: NewSecret) => void;
}

function Webhooks({ items, onChange, onSecret }: WebhooksProps) {
  if (items.length === 0) return <EmptyState icon="info" title="There are no webhooks yet" />;
  return (
    <ul class="webhook-list" aria-label="Webhooks">
      {items.map((webhook) => (
        <WebhookItem key={webhook.id} webhook={webhook} onChange={onChange} onSecret={onSecret} />
      ))}
    </ul>
  );
}
