import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { loadModels, modelName, models, stateName } from "../api/models";
import { Badge } from "../documents/status";
import { formatNumber } from "../text/format";
import { Banner, Loading } from "../ui/states";

const KINDS: Record<string, "ready" | "failed"> = { ok: "ready", unreachable: "failed", unusable: "failed" };

export function ModelsSection() {
  useEffect(() => void loadModels(), []);
  const known = models.value;
  if (!known) return <Loading />;
  return (
    <>
      {known.answers === "extractive" && (
        <Banner>No language model is connected: answers are sentences quoted from your documents.</Banner>
      )}
      <Group title="Models that answer">
        {known.models.map(({ id, provider, state, is_default, context_window }) => (
          <Row key={id} id={id} state={state}>
            {is_default && <span class="badge">Default</span>}
            {context_window && provider !== "extractive" && (
              <span class="faint">{formatNumber(context_window)} tokens of context</span>
            )}
          </Row>
        ))}
      </Group>
      <Group title="Providers">
        {known.providers.map(({ name, state, hint }) => (
          <Row key={name} id={name} state={state}>
            <span class="faint">{hint}</span>
          </Row>
        ))}
      </Group>
      <Group title="Model that finds passages">
        <Row {...known.embedding_model} />
      </Group>
    </>
  );
}

function Group({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="card" aria-label={title}>
      <h2>{title}</h2>
      <ul class="rows">{children}</ul>
    </section>
  );
}

function Row({ id, state, children }: { id: string; state: string; children?: ComponentChildren }) {
  return (
    <li>
      <span class="clip" dir="auto" title={id}>
        {modelName(id)}
      </span>
      {children}
      <Badge kind={KINDS[state] ?? "queued"}>{stateName(state)}</Badge>
    </li>
  );
}
