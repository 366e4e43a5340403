import { useEffect } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { Badge } from "../documents/status";
import { formatBytes, formatMoment, formatNumber, formatPercent } from "../text/format";
import { Button } from "../ui/button";
import { EmptyState, ErrorState, FormError, Loading, ProgressBar } from "../ui/states";
import { type Column, Table } from "../ui/table";
import { useAction } from "../ui/use_action";

type Space = Schemas["SpaceOut"];
type SpaceIndex = Schemas["SpaceIndexOut"];

const AGAIN_MS = 5000;
const ROLES: Record<Space["role"], string> = {
  ...{ live: "Answers now", target: "Being filled", previous: "The one before", unused: "Not used" },
};

/** By which vectors passages are found, and how well. */
export function AdminIndexSection() {
  const spaces = useLoaded((signal) => read(api.GET("/api/v1/admin/embedding-spaces", { signal })));
  const report = useLoaded((signal) => read(api.GET("/api/v1/admin/index", { signal })));
  const measure = useAction(async () => {
    await read(api.POST("/api/v1/admin/index/measure"));
    report.reload();
  });
  const isFilling = spaces.data?.spaces.some(({ state }) => state === "filling");
  useEffect(() => {
    if (!isFilling) return;
    const timer = setTimeout(spaces.reload, AGAIN_MS);
    return () => clearTimeout(timer);
  }, [spaces.data]);
  const error = spaces.error ?? report.error;
  if (error) return <ErrorState error={error} onRetry={spaces.error ? spaces.reload : report.reload} />;
  if (!spaces.data || !report.data) return <Loading />;
  if (spaces.data.spaces.length === 0) return <EmptyState icon="search" title="No document was embedded yet" />;
  return (
    <>
      <section class="card" aria-labelledby="spaces-title">
        <h2 id="spaces-title">Embedding models</h2>
        <Table label="Embedding models" columns={SPACES} items={spaces.data.spaces} keyOf={({ id }) => id} />
      </section>
      <section class="card" aria-labelledby="index-title">
        <header class="card-head">
          <h2 id="index-title">Vector index</h2>
          <Button isBusy={measure.isBusy} onClick={measure.run}>
            Measure now
          </Button>
        </header>
        <FormError error={measure.error} />
        <Table label="Vector index" columns={INDEX} items={report.data.spaces} keyOf={({ space_id }) => space_id} />
      </section>
    </>
  );
}

const SPACES: readonly Column<Space>[] = [
  {
    label: "Model",
    cell: ({ model, dimensions }) => (
      <>
        {model}
        <span class="note">{`${formatNumber(dimensions)} dimensions`}</span>
      </>
    ),
  },
  { label: "Role", cell: ({ role }) => <Badge kind={role === "live" ? "ready" : "queued"}>{ROLES[role]}</Badge> },
  {
    label: "Passages",
    cell: ({ chunks, embedded, percent, model, error_code }) => (
      <>
        {`${formatNumber(embedded)} of ${formatNumber(chunks)}, ${formatPercent(percent / 100)}`}
        <ProgressBar value={percent / 100} label={`Filled: ${model}`} />
        {error_code && <span class="note">{error_code}</span>}
      </>
    ),
  },
];

const INDEX: readonly Column<SpaceIndex>[] = [
  { label: "Model", cell: ({ model, provider }) => `${provider}/${model}` },
  { label: "Vectors", isNumber: true, cell: ({ vectors }) => formatNumber(vectors) },
  { label: "Table", isNumber: true, cell: ({ table_bytes }) => formatBytes(table_bytes) },
  {
    label: "Index",
    cell: ({ index }) =>
      index.state === "none" ? "None: exact search" : `${index.state}, ${formatBytes(index.size_bytes)}`,
  },
  {
    label: "Recall",
    cell: ({ recall }) =>
      recall ? (
        <span title={formatMoment(recall.measured_at)}>
          {formatPercent(recall.overall)}
          <span class="note">{`worst organization: ${formatPercent(recall.worst_organization)}`}</span>
        </span>
      ) : (
        "Not measured"
      ),
  },
];
