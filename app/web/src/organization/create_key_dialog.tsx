import { useEffect, useId, useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { loadModels, modelName, models } from "../api/models";
import { may } from "../api/session";
import { readAmount } from "../text/amount";
import { AmountField } from "../ui/amount_field";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Field, SelectField } from "../ui/field";
import { useAction } from "../ui/use_action";
import type { NewKey } from "./api_keys_section";

type Body = Schemas["ApiKeyCreate"];
type Scope = Body["scope"];

interface Draft {
  name: string;
  scope: Scope;
  /** Null: all of them. */
  allowedModels: readonly string[] | null;
  /** 0: never. */
  days: number;
  requests: string;
  tokens: string;
  dollars: string;
}

interface FormProps {
  draft: Draft;
  onChange: (changes: Partial<Draft>) => void;
}

const EMPTY: Draft = { name: "", scope: "write", allowedModels: null, days: 90, requests: "", tokens: "", dollars: "" };
const DAY_MS = 86_400_000;
const USD_PLACES = 9;
const NO_LIMIT = "Empty: none of its own.";
const SCOPES: readonly [scope: Scope, label: string, hint: string][] = [
  ["read", "Read", "Documents, search, conversations, usage."],
  ["write", "Read and write", "Also questions to a model, and changes to documents."],
  ["admin", "Everything", "Also keys, members and settings, as far as your role goes."],
];
const LIFETIMES: readonly [days: number, label: string][] = [
  [30, "In 30 days"],
  [90, "In 90 days"],
  [365, "In a year"],
  [0, "Never"],
];

export function CreateKeyDialog({ onClose, onCreated }: { onClose: () => void; onCreated: (key: NewKey) => void }) {
  const [draft, setDraft] = useState(EMPTY);
  const formId = useId();
  useEffect(() => void loadModels(), []);
  const { isBusy, error, run } = useAction(async () =>
    onCreated(await read(api.POST("/api/v1/api-keys", { body: toBody(draft) }))),
  );
  const change = (changes: Partial<Draft>) => setDraft({ ...draft, ...changes });
  const isReady = draft.name.trim() !== "" && draft.allowedModels?.length !== 0 && isClear(draft);
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind="primary" type="submit" form={formId} isBusy={isBusy} disabled={!isReady}>
        Create key
      </Button>
    </>
  );
  return (
    <Dialog title="New API key" onClose={onClose} actions={actions} error={error}>
      <form id={formId} class="form" onSubmit={run}>
        <Field
          label="Name"
          hint="What it is for."
          autofocus
          dir="auto"
          autocomplete="off"
          required
          maxLength={100}
          value={draft.name}
          onInput={(event) => change({ name: event.currentTarget.value })}
        />
        <ScopeChoice draft={draft} onChange={change} />
        <SelectField
          label="Expires"
          value={draft.days}
          onChange={(event) => change({ days: Number(event.currentTarget.value) })}
        >
          {LIFETIMES.map(([days, label]) => (
            <option key={days} value={days}>
              {label}
            </option>
          ))}
        </SelectField>
        <ModelChoice draft={draft} onChange={change} />
        <Limits draft={draft} onChange={change} />
      </form>
    </Dialog>
  );
}

function ScopeChoice({ draft, onChange }: FormProps) {
  return (
    <fieldset>
      <legend>What it may do</legend>
      {SCOPES.filter(([scope]) => scope !== "admin" || may("manage_organization")).map(([scope, label, hint]) => (
        <label key={scope} class="check">
          <input type="radio" name="scope" checked={draft.scope === scope} onChange={() => onChange({ scope })} />
          <span>
            {label}
            <span class="faint">{hint}</span>
          </span>
        </label>
      ))}
    </fieldset>
  );
}

function ModelChoice({ draft: { allowedModels }, onChange }: FormProps) {
  const known = models.value?.models ?? [];
  function toggle(id: string, isOn: boolean) {
    const others = (allowedModels ?? []).filter((each) => each !== id);
    onChange({ allowedModels: isOn ? [...others, id] : others });
  }
  return (
    <fieldset>
      <legend>Models</legend>
      <label class="check">
        <input
          type="checkbox"
          checked={allowedModels === null}
          onChange={(event) => onChange({ allowedModels: event.currentTarget.checked ? null : [] })}
        />
        <span>All models</span>
      </label>
      {allowedModels !== null &&
        known.map(({ id }) => (
          <label key={id} class="check">
            <input
              type="checkbox"
              checked={allowedModels.includes(id)}
              onChange={(event) => toggle(id, event.currentTarget.checked)}
            />
            <span title={id}>{modelName(id)}</span>
          </label>
        ))}
    </fieldset>
  );
}

/** Of the key alone; behind a click, for most keys have none. */
function Limits({ draft, onChange }: FormProps) {
  return (
    <details class="own-limits">
      <summary>Limits of its own</summary>
      <div class="form-pair">
        <AmountField
          label="Requests a minute"
          hint={NO_LIMIT}
          places={0}
          typed={draft.requests}
          onType={(requests) => onChange({ requests })}
        />
        <AmountField
          label="Tokens a day"
          hint={NO_LIMIT}
          places={0}
          typed={draft.tokens}
          onType={(tokens) => onChange({ tokens })}
        />
        <AmountField
          label="US dollars a month"
          hint={NO_LIMIT}
          isUsd
          places={USD_PLACES}
          typed={draft.dollars}
          onType={(dollars) => onChange({ dollars })}
        />
      </div>
    </details>
  );
}

function toBody({ name, scope, allowedModels, days, requests, tokens, dollars }: Draft): Body {
  const usd = toNumber(dollars, USD_PLACES);
  return {
    name,
    scope,
    environment: "live",
    allowed_models: allowedModels && [...allowedModels],
    expires_at: days === 0 ? null : new Date(Date.now() + days * DAY_MS).toISOString(),
    requests_per_minute: toNumber(requests),
    tokens_per_day: toNumber(tokens),
    monthly_budget_nano: usd === null ? null : Math.round(usd * 1e9),
  };
}

/** Null: none is typed. */
function toNumber(typed: string, places = 0): number | null {
  const { value } = readAmount(typed, places);
  return value === null ? null : Number(value);
}

const isClear = ({ requests, tokens, dollars }: Draft): boolean =>
  [readAmount(requests, 0), readAmount(tokens, 0), readAmount(dollars, USD_PLACES)].every(
    ({ problem }) => problem === null,
  );
