import { useEffect } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { loadModels, modelName, models } from "../api/models";
import { useLoaded } from "../api/use_loaded";
import { Badge } from "../documents/status";
import { breakerName, failureName, stateKind } from "../settings/model_states";
import { PROVIDERS } from "../settings/models_section";
import { count, formatNumber } from "../text/format";
import { ErrorState, Loading } from "../ui/states";
import { type Column, Table } from "../ui/table";

type Deployment = Schemas["DeploymentHealthOut"];

const AGAIN_MS = 5000;

/** What answers here, and how each of it is doing now. */
export function AdminProvidersSection() {
  const { data, error, reload } = useLoaded((signal) => read(api.GET("/health/providers", { signal })));
  useEffect(() => void loadModels(), []);
  useEffect(() => {
    const timer = setTimeout(() => document.visibilityState === "visible" && reload(), AGAIN_MS);
    return () => clearTimeout(timer);
  }, [data]);
  if (!data) return error ? <ErrorState error={error} onRetry={reload} /> : <Loading />;
  return (
    <>
      <section class="card" aria-labelledby="deployments-title">
        <h2 id="deployments-title">Models in use</h2>
        <Table
          label="Models in use"
          columns={COLUMNS}
          items={data.providers.filter(({ model }) => model !== null)}
          keyOf={({ provider, model }) => `${provider}/${model}`}
        />
      </section>
      <section class="card" aria-labelledby="providers-title">
        <h2 id="providers-title">Providers</h2>
        <Table label="Providers" columns={PROVIDERS} items={models.value?.providers ?? []} keyOf={({ name }) => name} />
      </section>
    </>
  );
}

const COLUMNS: readonly Column<Deployment>[] = [
  {
    label: "Model",
    cell: ({ provider, model }) => (
      <>
        {model}
        <span class="note">{modelName(provider)}</span>
      </>
    ),
  },
  {
    label: "State",
    cell: ({ state, retry_in_s }) => (
      <>
        <Badge kind={stateKind(state)}>{breakerName(state)}</Badge>
        {retry_in_s !== null && <span class="note">{`tried again in ${count(Math.ceil(retry_in_s), "second")}`}</span>}
      </>
    ),
  },
  { label: "Last failure", cell: ({ last_error }) => (last_error ? failureName(last_error) : "None") },
  { label: "Under way", isNumber: true, cell: ({ in_flight }) => formatNumber(in_flight) },
];
