import { useId, useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { planName } from "../organization/budget_limits";
import { readAmount, writeAmount } from "../text/amount";
import { formatNumber } from "../text/format";
import { understood } from "../ui/amount_field";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { SelectField } from "../ui/field";
import { ErrorState, Loading } from "../ui/states";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import type { AdminOrganization } from "./organizations_section";

type Plan = Schemas["OrganizationPlan"];
type Current = Schemas["OrganizationPlanOut"];
type LimitName = keyof Schemas["LimitsOut"];

/** Undefined: the plan's; null: no limit; else as it was typed. */
type Typed = Partial<Record<LimitName, string | null>>;

interface Limit {
  name: LimitName;
  label: string;
  /** Whether there may be none. */
  isOptional: boolean;
  /** How many of what the API counts make one of what is typed. */
  unit: number;
}

const PLANS: readonly Plan[] = ["free", "pro", "enterprise"];
const LIMITS: readonly Limit[] = [
  { name: "chat_per_minute", label: "Questions a minute", isOptional: true, unit: 1 },
  { name: "search_per_minute", label: "Searches a minute", isOptional: true, unit: 1 },
  { name: "upload_per_minute", label: "Uploads a minute", isOptional: true, unit: 1 },
  { name: "embedding_per_minute", label: "Embedding units a minute", isOptional: true, unit: 1 },
  { name: "address_per_minute", label: "Requests a minute from one address", isOptional: true, unit: 1 },
  { name: "tokens_per_day", label: "Tokens a day", isOptional: true, unit: 1 },
  { name: "streams", label: "Answers at once", isOptional: false, unit: 1 },
  { name: "storage_bytes", label: "Storage in MB", isOptional: true, unit: 1_000_000 },
  { name: "documents", label: "Documents", isOptional: true, unit: 1 },
  { name: "members", label: "Members", isOptional: true, unit: 1 },
  { name: "api_keys", label: "API keys", isOptional: true, unit: 1 },
  { name: "user_share_percent", label: "Share of one member, in percent", isOptional: false, unit: 1 },
  { name: "key_share_percent", label: "Share of one API key, in percent", isOptional: false, unit: 1 },
];
const PATH = "/api/v1/admin/organizations/{org_id}/limits";

interface DialogProps {
  organization: AdminOrganization;
  onClose: () => void;
  onDone: () => void;
}

/** The plan of an organization, and what it has instead of that plan's limits. */
export function LimitsDialog({ organization, onClose, onDone }: DialogProps) {
  const params = { path: { org_id: organization.id } };
  const { data, error, reload } = useLoaded((signal) => read(api.GET(PATH, { params, signal })));
  if (data) return <LimitsForm current={data} name={organization.name} onClose={onClose} onDone={onDone} />;
  return (
    <Dialog title="Plan and limits" onClose={onClose}>
      {error ? <ErrorState error={error} onRetry={reload} /> : <Loading />}
    </Dialog>
  );
}

interface FormProps {
  current: Current;
  name: string;
  onClose: () => void;
  onDone: () => void;
}

function LimitsForm({ current, name, onClose, onDone }: FormProps) {
  const [plan, setPlan] = useState<Plan | null>(current.is_default ? null : current.plan);
  const [typed, setTyped] = useState(() => typedOf(current));
  const { isBusy, error, run } = useAction(async () => {
    // What is not named goes back to the plan's, though the types ask for all of it.
    const body = { plan, overrides: overridesOf(typed) } as Schemas["PlanChange"];
    await read(api.PUT(PATH, { params: { path: { org_id: current.org_id } }, body }));
    tell("The limits are set.");
    onClose();
    onDone();
  });
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button type="submit" form="limits-form" kind="primary" isBusy={isBusy} disabled={!isComplete(typed)}>
        Save
      </Button>
    </>
  );
  return (
    <Dialog title="Plan and limits" onClose={onClose} actions={actions} error={error}>
      <p class="named" dir="auto">
        {name}
      </p>
      <form id="limits-form" class="limit-grid" onSubmit={run}>
        <SelectField
          label="Plan"
          value={plan ?? ""}
          onChange={({ currentTarget }) => setPlan(PLANS.find((each) => each === currentTarget.value) ?? null)}
        >
          <option value="">That of new organizations</option>
          {PLANS.map((each) => (
            <option key={each} value={each}>
              {planName(each)}
            </option>
          ))}
        </SelectField>
        {LIMITS.map((limit) => (
          <LimitRow
            key={limit.name}
            limit={limit}
            typed={typed[limit.name]}
            start={current.limits[limit.name]}
            onChange={(value) =>
              setTyped(({ [limit.name]: _, ...others }) =>
                value === undefined ? others : { ...others, [limit.name]: value },
              )
            }
          />
        ))}
      </form>
    </Dialog>
  );
}

interface RowProps {
  limit: Limit;
  typed: string | null | undefined;
  /** What holds now. */
  start: number | null;
  onChange: (typed: string | null | undefined) => void;
}

function LimitRow({ limit: { label, isOptional, unit }, typed, start, onChange }: RowProps) {
  const noteId = useId();
  const amount = readAmount(typed ?? "", placesOf(unit));
  const mode = typed === undefined ? "plan" : typed === null ? "none" : "own";
  function choose(next: string) {
    if (next === "plan") onChange(undefined);
    else onChange(next === "none" ? null : String(Math.round((start ?? unit) / unit)));
  }
  return (
    <div class="limit-row">
      <span>{label}</span>
      <select aria-label={label} value={mode} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="plan">As the plan</option>
        <option value="own">Own limit</option>
        {isOptional && <option value="none">No limit</option>}
      </select>
      {mode === "own" && (
        <input
          inputMode="decimal"
          autocomplete="off"
          required
          maxLength={30}
          aria-label={`${label}: own limit`}
          aria-describedby={noteId}
          aria-invalid={amount.problem ? true : undefined}
          value={typed ?? ""}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      )}
      {mode === "plan" && <span class="faint">{start === null ? "no limit" : formatNumber(start / unit)}</span>}
      {mode === "own" && (
        <p id={noteId} class={amount.problem ? "field-note error" : "field-note"}>
          {amount.problem ?? understood(amount)}
        </p>
      )}
    </div>
  );
}

function typedOf({ overrides }: Current): Typed {
  const typed: Typed = {};
  for (const { name, unit } of LIMITS) {
    const value = overrides[name];
    if (value !== undefined) typed[name] = value === null ? null : writeAmount(String(value / unit));
  }
  return typed;
}

function overridesOf(typed: Typed): Partial<Record<LimitName, number | null>> {
  const overrides: Partial<Record<LimitName, number | null>> = {};
  for (const { name, unit } of LIMITS) {
    const value = typed[name];
    if (value === undefined) continue;
    overrides[name] = value === null ? null : Math.round(Number(readAmount(value, placesOf(unit)).value) * unit);
  }
  return overrides;
}

const isComplete = (typed: Typed): boolean =>
  LIMITS.every(({ name, unit }) => {
    const value = typed[name];
    return value === undefined || value === null || readAmount(value, placesOf(unit)).value !== null;
  });

/** Parts only of what the API counts more finely. */
const placesOf = (unit: number): number => Math.log10(unit);
