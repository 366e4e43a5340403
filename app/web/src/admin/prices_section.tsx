import { useEffect, useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { loadModels, models } from "../api/models";
import { useLoaded } from "../api/use_loaded";
import { formatDay, formatUsd } from "../text/format";
import { Button } from "../ui/button";
import { Menu } from "../ui/menu";
import { EmptyState, ErrorState, Loading } from "../ui/states";
import { type Column, Table } from "../ui/table";
import { tell, tellError } from "../ui/toast";
import { PriceDialog } from "./price_dialog";
import "./admin.css";

export type Price = Schemas["PriceOut"];
type ModelChoice = Schemas["ModelChoiceOut"];
/** What is set: a new price, or another one in the place of this. */
type Asked = Partial<Price>;

export function AdminPricesSection() {
  const { data, error, reload } = useLoaded((signal) => read(api.GET("/api/v1/admin/prices", { signal })));
  const [asked, setAsked] = useState<Asked | null>(null);
  useEffect(() => void loadModels(), []);
  function onDone() {
    setAsked(null);
    reload();
    void loadModels();
  }
  return (
    <>
      <section class="card admin" aria-labelledby="prices-title">
        <header class="card-head">
          <h2 id="prices-title">Prices set here</h2>
          <Button kind="primary" icon="plus" onClick={() => setAsked({})}>
            Set a price
          </Button>
        </header>
        <p class="section-note">US dollars for a million tokens. They go before the built-in list, from now on.</p>
        {error ? (
          <ErrorState error={error} onRetry={reload} />
        ) : data ? (
          <Prices prices={data.prices} onAsk={setAsked} onChange={onDone} />
        ) : (
          <Loading />
        )}
      </section>
      <ListedPrices onAsk={setAsked} />
      {asked && <PriceDialog price={asked} onClose={() => setAsked(null)} onDone={onDone} />}
    </>
  );
}

interface PricesProps {
  prices: readonly Price[];
  onAsk: (asked: Asked) => void;
  onChange: () => void;
}

function Prices({ prices, onAsk, onChange }: PricesProps) {
  if (prices.length === 0) return <EmptyState icon="info" title="The built-in list holds for every model" />;
  async function remove({ model, organization_id }: Price) {
    const query = organization_id ? { organization_id } : {};
    try {
      await read(api.DELETE("/api/v1/admin/prices/{model}", { params: { path: { model }, query } }));
      tell("The price is deleted.");
    } catch (error) {
      tellError(error);
    }
    onChange();
  }
  const columns: Column<Price>[] = [
    {
      label: "Model",
      cell: ({ model, organization_id, updated_at }) => (
        <>
          {model}
          <span class="note">
            {organization_id ? `For organization ${organization_id}` : "For everybody"}, {formatDay(updated_at)}
          </span>
        </>
      ),
    },
    { label: "Input", isNumber: true, cell: ({ input_usd }) => formatUsd(input_usd) },
    { label: "Cached input", isNumber: true, cell: (price) => formatUsd(price.cached_input_usd ?? price.input_usd) },
    { label: "Output", isNumber: true, cell: ({ output_usd }) => formatUsd(output_usd) },
    {
      label: "Actions",
      isActions: true,
      cell: (price) => (
        <Menu
          label={`Actions for ${price.model}`}
          items={[
            { label: "Change", icon: "edit", onSelect: () => onAsk(price) },
            { label: "Delete", icon: "trash", isDanger: true, onSelect: () => void remove(price) },
          ]}
        />
      ),
    },
  ];
  return (
    <Table
      label="Prices"
      columns={columns}
      items={prices}
      keyOf={({ model, organization_id }) => `${model} ${organization_id}`}
    />
  );
}

/** What the models at hand cost, wherever that comes from. */
function ListedPrices({ onAsk }: { onAsk: (asked: Asked) => void }) {
  const priced =
    models.value?.models.filter(({ targets, provider }) => !targets.length && provider !== "extractive") ?? [];
  const columns: Column<ModelChoice>[] = [
    { label: "Model", cell: ({ id }) => id },
    { label: "Input", isNumber: true, cell: ({ price }) => (price ? formatUsd(price.input_usd) : "Unknown") },
    { label: "Output", isNumber: true, cell: ({ price }) => (price ? formatUsd(price.output_usd) : "Unknown") },
    {
      label: "Actions",
      isActions: true,
      cell: ({ id, price }) => (
        <Button kind="quiet" aria-label={`Set the price of ${id}`} onClick={() => onAsk({ model: id, ...price })}>
          Set
        </Button>
      ),
    },
  ];
  if (priced.length === 0) return null;
  return (
    <section class="card admin" aria-labelledby="listed-title">
      <h2 id="listed-title">What the models at hand cost</h2>
      <Table label="Models at hand" columns={columns} items={priced} keyOf={({ id }) => id} />
    </section>
  );
}
