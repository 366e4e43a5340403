import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { models } from "../api/models";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Field } from "../ui/field";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import type { Price } from "./prices_section";

interface DialogProps {
  price: Partial<Price>;
  onClose: () => void;
  onDone: () => void;
}

export function PriceDialog({ price, onClose, onDone }: DialogProps) {
  const [model, setModel] = useState(price.model ?? "");
  const [organizationId, setOrganizationId] = useState(price.organization_id ?? "");
  const [input, setInput] = useState(price.input_usd ?? "");
  const [cached, setCached] = useState(price.cached_input_usd ?? "");
  const [output, setOutput] = useState(price.output_usd ?? "");
  const { isBusy, error, run } = useAction(async () => {
    const query = organizationId.trim() ? { organization_id: organizationId.trim() } : {};
    const body = {
      input_usd: dollars(input),
      output_usd: dollars(output),
      cached_input_usd: cached ? dollars(cached) : null,
    };
    await read(api.PUT("/api/v1/admin/prices/{model}", { params: { path: { model: model.trim() }, query }, body }));
    tell("The price is set.");
    onDone();
  });
  // A price that is there keeps its model and whom it is for.
  const isKnown = price.updated_at !== undefined;
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button
        type="submit"
        form="price-form"
        kind="primary"
        isBusy={isBusy}
        disabled={!model.trim() || !input || !output}
      >
        Save
      </Button>
    </>
  );
  return (
    <Dialog title="Price of a model" onClose={onClose} actions={actions} error={error}>
      <form id="price-form" class="form" onSubmit={run}>
        <Field
          label="Model"
          hint="As provider/model."
          list="price-models"
          required
          maxLength={200}
          readOnly={isKnown}
          value={model}
          onInput={(event) => setModel(event.currentTarget.value)}
        />
        <datalist id="price-models">
          {models.value?.models.map(({ id }) => (
            <option key={id} value={id} />
          ))}
        </datalist>
        <div class="form-pair">
          <Money label="Input" value={input} onChange={setInput} />
          <Money label="Output" value={output} onChange={setOutput} />
          <Money label="Cached input" hint="Empty: as other input." value={cached} onChange={setCached} />
        </div>
        <Field
          label="Only for the organization"
          hint="Its id; empty: for everybody."
          maxLength={36}
          readOnly={isKnown}
          value={organizationId}
          onInput={(event) => setOrganizationId(event.currentTarget.value)}
        />
      </form>
    </Dialog>
  );
}

interface MoneyProps {
  label: string;
  hint?: string;
  value: string;
  onChange: (value: string) => void;
}

function Money({ label, hint = "US dollars for a million tokens.", value, onChange }: MoneyProps) {
  const isAmount = value === "" || /^\d+([.,]\d{0,6})?$/.test(value.trim());
  return (
    <Field
      label={label}
      hint={hint}
      inputMode="decimal"
      autocomplete="off"
      maxLength={14}
      value={value}
      error={isAmount ? null : "Write an amount such as 2.50."}
      onInput={(event) => onChange(event.currentTarget.value)}
    />
  );
}

const dollars = (typed: string): string => typed.trim().replace(",", ".");
