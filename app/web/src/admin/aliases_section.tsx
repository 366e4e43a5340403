import { useEffect, useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { loadModels } from "../api/models";
import { useLoaded } from "../api/use_loaded";
import { Button } from "../ui/button";
import { Menu } from "../ui/menu";
import { EmptyState, ErrorState, Loading } from "../ui/states";
import { type Column, Table } from "../ui/table";
import { tell, tellError } from "../ui/toast";
import { AliasDialog } from "./alias_dialog";
import "./admin.css";

export type Alias = Schemas["AliasOut"];

export function AdminAliasesSection() {
  const { data, error, reload } = useLoaded((signal) => read(api.GET("/api/v1/admin/model-aliases", { signal })));
  const [asked, setAsked] = useState<Alias | "new" | null>(null);
  useEffect(() => void loadModels(), []);
  function onDone() {
    setAsked(null);
    reload();
    void loadModels();
  }
  return (
    <section class="card admin" aria-labelledby="aliases-title">
      <header class="card-head">
        <h2 id="aliases-title">Model names</h2>
        <Button kind="primary" icon="plus" onClick={() => setAsked("new")}>
          New name
        </Button>
      </header>
      <p class="section-note">
        A name stands for one model, or for several: the next one answers when one does not.
        {data?.default_model && ` Questions that name none go to ${data.default_model}.`}
      </p>
      {error ? (
        <ErrorState error={error} onRetry={reload} />
      ) : data ? (
        <Aliases aliases={data.aliases} onAsk={setAsked} onChange={onDone} />
      ) : (
        <Loading />
      )}
      {asked && <AliasDialog alias={asked === "new" ? null : asked} onClose={() => setAsked(null)} onDone={onDone} />}
    </section>
  );
}

interface AliasesProps {
  aliases: readonly Alias[];
  onAsk: (alias: Alias) => void;
  onChange: () => void;
}

function Aliases({ aliases, onAsk, onChange }: AliasesProps) {
  if (aliases.length === 0) return <EmptyState icon="info" title="There are no names yet" />;
  async function remove(name: string) {
    try {
      await read(api.DELETE("/api/v1/admin/model-aliases/{name}", { params: { path: { name } } }));
      tell("The name is deleted.");
    } catch (error) {
      tellError(error);
    }
    onChange();
  }
  const columns: Column<Alias>[] = [
    {
      label: "Name",
      cell: ({ name, description }) => (
        <>
          {name}
          <span class="note" dir="auto">
            {description}
          </span>
        </>
      ),
    },
    {
      label: "Answered by",
      cell: ({ targets, allow_extractive }) => (
        <ol class="targets">
          {targets.map(({ model, weight }) => (
            <li key={model}>
              {model} {weight > 0 && <span class="faint">weight {weight}</span>}
            </li>
          ))}
          {allow_extractive && <li>Quotes from documents</li>}
        </ol>
      ),
    },
    {
      label: "Actions",
      isActions: true,
      cell: (alias) => (
        <Menu
          label={`Actions for ${alias.name}`}
          items={[
            { label: "Change", icon: "edit", onSelect: () => onAsk(alias) },
            { label: "Delete", icon: "trash", isDanger: true, onSelect: () => void remove(alias.name) },
          ]}
        />
      ),
    },
  ];
  return <Table label="Model names" columns={columns} items={aliases} keyOf={({ name }) => name} />;
}
