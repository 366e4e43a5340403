import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { models } from "../api/models";
import { readAmount, writeAmount } from "../text/amount";
import { AmountField } from "../ui/amount_field";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Field } from "../ui/field";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import type { Price } from "./prices_section";

/** Null: none, or none that is clear. */
type Usd = string | null;

const PLACES = 6;

interface DialogProps {
  price: Partial<Price>;
  onClose: () => void;
  onDone: () => void;
}

export function PriceDialog({ price, onClose, onDone }: DialogProps) {
  const [model, setModel] = useState(price.model ?? "");
  const [organizationId, setOrganizationId] = useState(price.organization_id ?? "");
  const [input, setInput] = useState(writeAmount(price.input_usd ?? ""));
  const [cached, setCached] = useState(writeAmount(price.cached_input_usd ?? ""));
  const [output, setOutput] = useState(writeAmount(price.output_usd ?? ""));
  const [input_usd, cached_input_usd, output_usd] = [input, cached, output].map(dollars) as [Usd, Usd, Usd];
  const isComplete = model.trim() && input_usd !== null && output_usd !== null;
  const isClear = cached.trim() === "" || cached_input_usd !== null;
  const { isBusy, error, run } = useAction(async () => {
    const query = organizationId.trim() ? { organization_id: organizationId.trim() } : {};
    if (input_usd === null || output_usd === null) return; // the button is off
    const body = { input_usd, output_usd, cached_input_usd };
    await read(api.PUT("/api/v1/admin/prices/{model}", { params: { path: { model: model.trim() }, query }, body }));
    tell("The price is set.");
    onDone();
  });
  // A price that is there keeps its model and whom it is for.
  const isKnown = price.updated_at !== undefined;
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button type="submit" form="price-form" kind="primary" isBusy={isBusy} disabled={!isComplete || !isClear}>
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

function Money({ label, hint = "For a million tokens.", value, onChange }: MoneyProps) {
  return <AmountField label={label} hint={hint} isUsd places={PLACES} typed={value} onType={onChange} />;
}

const dollars = (typed: string): Usd => readAmount(typed, PLACES).value;
