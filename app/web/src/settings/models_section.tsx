import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { loadModels, modelName, models, stateName } from "../api/models";
import { useLoaded } from "../api/use_loaded";
import { Badge } from "../documents/status";
import { count, formatNumber, formatUsd } from "../text/format";
import { Banner, Loading } from "../ui/states";
import { type Column, Table } from "../ui/table";
import { breakerName, failureName, stateKind } from "./model_states";
import "./models.css";

type Model = Schemas["ModelChoiceOut"];
type Deployment = Schemas["DeploymentHealthOut"];

export function ModelsSection() {
  useEffect(() => void loadModels(), []);
  const health = useLoaded((signal) => read(api.GET("/health/providers", { signal }))).data;
  const known = models.value;
  if (!known) return <Loading />;
  const isAlias = ({ provider }: Model) => provider === "alias";
  const aliases = known.models.filter(isAlias);
  const answering = known.models.filter((model) => !isAlias(model));
  const deployments = health?.providers ?? [];
  return (
    <>
      {known.answers === "extractive" && (
        <Banner>No language model is connected: answers are sentences quoted from your documents.</Banner>
      )}
      <Group title="Models that answer">
        <Table label="Models" columns={columns(deployments)} items={answering} keyOf={({ id }) => id} />
      </Group>
      {aliases.length > 0 && (
        <Group title="Names for models">
          <Table label="Names for models" columns={ALIASES} items={aliases} keyOf={({ id }) => id} />
        </Group>
      )}
      <Group title="Providers">
        <Table label="Providers" columns={PROVIDERS} items={known.providers} keyOf={({ name }) => name} />
      </Group>
      <Group title="Model that finds passages">
        <ul class="rows">
          <Row {...known.embedding_model} />
        </ul>
      </Group>
    </>
  );
}

function Group({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="card" aria-label={title}>
      <h2>{title}</h2>
      {children}
    </section>
  );
}

function Row({ id, state }: { id: string; state: string }) {
  return (
    <li>
      <span class="clip" dir="auto" title={id}>
        {modelName(id)}
      </span>
      <Badge kind={stateKind(state)}>{stateName(state)}</Badge>
    </li>
  );
}

const NAME: Column<Model> = {
  label: "Model",
  cell: ({ id, provider, is_default, description }) => (
    <span title={id}>
      <span class="model-name" dir="auto">
        {modelName(id)} {is_default && <span class="badge">Default</span>}
      </span>
      <span class="note" dir="auto">
        {provider === "alias" ? description : provider !== "extractive" && modelName(provider)}
      </span>
    </span>
  ),
};

const columns = (deployments: readonly Deployment[]): Column<Model>[] => [
  NAME,
  {
    label: "Context",
    isNumber: true,
    cell: ({ context_window, provider }) =>
      provider === "extractive" ? "" : context_window === null ? "Unknown" : formatNumber(context_window),
  },
  { label: "Input, 1M tokens", isNumber: true, cell: (model) => priceOf(model, "input_usd") },
  { label: "Output, 1M tokens", isNumber: true, cell: (model) => priceOf(model, "output_usd") },
  {
    label: "State",
    cell: ({ id, state }) => <State state={state} deployment={deployments.find((each) => isOf(each, id))} />,
  },
];

const ALIASES: readonly Column<Model>[] = [
  NAME,
  {
    label: "Answered by",
    cell: ({ targets }) => (
      <ol class="targets">
        {targets.map((target) => (
          <li key={target}>{target}</li>
        ))}
      </ol>
    ),
  },
  { label: "State", cell: ({ state }) => <Badge kind={stateKind(state)}>{stateName(state)}</Badge> },
];

/** Calls to a model that failed lately are held back for some seconds, though its provider is there. */
function State({ state, deployment }: { state: string; deployment: Deployment | undefined }) {
  const shown = deployment?.state ?? state;
  return (
    <>
      <Badge kind={stateKind(shown)}>{breakerName(shown)}</Badge>
      {deployment && deployment.retry_in_s !== null && (
        <span class="note">
          {deployment.last_error && `${failureName(deployment.last_error)}; `}
          {`again in ${count(Math.ceil(deployment.retry_in_s), "second")}`}
        </span>
      )}
    </>
  );
}

export const PROVIDERS: readonly Column<Schemas["ProviderOut"]>[] = [
  { label: "Provider", cell: ({ name }) => modelName(name) },
  { label: "What to do", cell: ({ hint }) => hint },
  { label: "State", cell: ({ state }) => <Badge kind={stateKind(state)}>{stateName(state)}</Badge> },
];

const isOf = ({ provider, model }: Deployment, id: string): boolean => `${provider}/${model}` === id;

function priceOf({ provider, price }: Model, side: "input_usd" | "output_usd"): string {
  if (provider === "extractive") return "Free";
  return price ? formatUsd(price[side]) : "Unknown";
}
