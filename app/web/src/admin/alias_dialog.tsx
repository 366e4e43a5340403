import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { models } from "../api/models";
import { readAmount } from "../text/amount";
import { Button, IconButton } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Field } from "../ui/field";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import type { Alias } from "./aliases_section";

interface Target {
  /** Of this form alone. */
  key: number;
  model: string;
  /** As it is typed. */
  weight: string;
}

const MAX_TARGETS = 16;
const MAX_WEIGHT = 1000;
let lastKey = 0;

const newTarget = (model = "", weight = 0): Target => ({ key: ++lastKey, model, weight: String(weight) });

interface DialogProps {
  /** Null: a new one. */
  alias: Alias | null;
  onClose: () => void;
  onDone: () => void;
}

export function AliasDialog({ alias, onClose, onDone }: DialogProps) {
  const [name, setName] = useState(alias?.name ?? "");
  const [description, setDescription] = useState(alias?.description ?? "");
  const [isExtractive, setExtractive] = useState(alias?.allow_extractive ?? false);
  const [targets, setTargets] = useState(
    () => alias?.targets.map(({ model, weight }) => newTarget(model, weight)) ?? [newTarget()],
  );
  const { isBusy, error, run } = useAction(async () => {
    const named = targets.map(({ model, weight }) => ({ model: model.trim(), weight: toWeight(weight) ?? 0 }));
    const body = { description: description.trim(), targets: named, allow_extractive: isExtractive };
    await read(api.PUT("/api/v1/admin/model-aliases/{name}", { params: { path: { name: name.trim() } }, body }));
    tell("The name is saved.");
    onDone();
  });
  const isComplete = name.trim() && targets.length > 0 && targets.every(isSet);
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button type="submit" form="alias-form" kind="primary" isBusy={isBusy} disabled={!isComplete}>
        Save
      </Button>
    </>
  );
  return (
    <Dialog title={alias ? "Change a model name" : "New model name"} onClose={onClose} actions={actions} error={error}>
      <form id="alias-form" class="form" onSubmit={run}>
        <Field
          label="Name"
          hint="What requests give as their model, such as “fast”."
          required
          maxLength={63}
          readOnly={alias !== null}
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <Field
          label="Description"
          dir="auto"
          maxLength={500}
          value={description}
          onInput={(event) => setDescription(event.currentTarget.value)}
        />
        <Targets targets={targets} onChange={setTargets} />
        <label class="check">
          <input
            type="checkbox"
            checked={isExtractive}
            onChange={(event) => setExtractive(event.currentTarget.checked)}
          />
          <span>Quote the documents when all of them fail</span>
        </label>
      </form>
    </Dialog>
  );
}

const isSet = ({ model, weight }: Target): boolean => model.trim() !== "" && toWeight(weight) !== null;

/** 0 where none is typed; null for what is none. */
function toWeight(typed: string): number | null {
  const { value, problem } = readAmount(typed, 0);
  return problem || Number(value) > MAX_WEIGHT ? null : Number(value);
}

interface TargetsProps {
  targets: readonly Target[];
  onChange: (targets: Target[]) => void;
}

function Targets({ targets, onChange }: TargetsProps) {
  const change = (key: number, changed: Partial<Target>) =>
    onChange(targets.map((each) => (each.key === key ? { ...each, ...changed } : each)));
  function moveUp(index: number) {
    const moved = [...targets];
    moved.splice(index - 1, 0, ...moved.splice(index, 1));
    onChange(moved);
  }
  return (
    <fieldset class="target-list">
      <legend>Answered by, in this order</legend>
      <p class="faint">Those with a weight come first, drawn by it for each question.</p>
      <div class="target faint" aria-hidden="true">
        <span>Model</span>
        <span>Weight</span>
      </div>
      {targets.map(({ key, model, weight }, index) => (
        <div key={key} class="target">
          <input
            aria-label={`Model ${index + 1}`}
            placeholder="provider/model"
            list="alias-models"
            maxLength={200}
            value={model}
            onInput={(event) => change(key, { model: event.currentTarget.value })}
          />
          <input
            inputMode="numeric"
            autocomplete="off"
            aria-label={`Weight of model ${index + 1}`}
            aria-invalid={toWeight(weight) === null ? true : undefined}
            title={`Weight, 0 to ${MAX_WEIGHT}`}
            maxLength={5}
            value={weight}
            onInput={(event) => change(key, { weight: event.currentTarget.value })}
          />
          <IconButton
            icon="send"
            label={`Move model ${index + 1} up`}
            disabled={index === 0}
            onClick={() => moveUp(index)}
          />
          <IconButton
            icon="trash"
            label={`Remove model ${index + 1}`}
            disabled={targets.length === 1}
            onClick={() => onChange(targets.filter((each) => each.key !== key))}
          />
        </div>
      ))}
      <datalist id="alias-models">
        {models.value?.models.map(({ id }) => (
          <option key={id} value={id} />
        ))}
      </datalist>
      <Button icon="plus" disabled={targets.length >= MAX_TARGETS} onClick={() => onChange([...targets, newTarget()])}>
        Add a model
      </Button>
    </fieldset>
  );
}
