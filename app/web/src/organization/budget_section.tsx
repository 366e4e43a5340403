import { useEffect, useState } from "preact/hooks";
import { api, read } from "../api/client";
import { may } from "../api/session";
import { readAmount, writeAmount } from "../text/amount";
import { formatCost, formatPercent, formatUtcDay } from "../text/format";
import { AmountField } from "../ui/amount_field";
import { Button } from "../ui/button";
import { ErrorState, FormError, Loading } from "../ui/states";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import { PlanLimits } from "./budget_limits";
import { type Budget, budget, loadBudget } from "./budget_state";
import "./budget.css";

/** A billionth of a dollar is the least that the server counts. */
const PLACES = 9;

export function BudgetSection() {
  const { error, run } = useAction(loadBudget);
  useEffect(run, []);
  const known = budget.value;
  return (
    <>
      <section class="card budget" aria-labelledby="budget-title">
        <h2 id="budget-title">This month</h2>
        {known ? <Gauge budget={known} /> : error ? <ErrorState error={error} onRetry={run} /> : <Loading />}
        {known && may("manage_organization") && <LimitForm key={known.limit_usd} limit={known.limit_usd} />}
      </section>
      <PlanLimits />
    </>
  );
}

function Gauge({ budget: { spent_usd, held_usd, limit_usd, resets_at, alerts } }: { budget: Budget }) {
  const limit = limit_usd === null ? null : Number(limit_usd);
  const share = (usd: string) => (limit ? Math.min(1, Number(usd) / limit) : Number(usd) > 0 || limit === 0 ? 1 : 0);
  const spent = share(spent_usd);
  const isOver = limit !== null && Number(spent_usd) >= limit;
  const level = isOver ? "over" : spent >= 0.8 ? "near" : "fine";
  const words = limit_usd === null ? "No limit is set" : `of ${formatCost(limit_usd)}`;
  return (
    <div class="gauge" data-level={limit === null ? "fine" : level}>
      <p class="gauge-figure">
        <strong>{formatCost(spent_usd)}</strong> spent <span class="faint">{words}</span>
      </p>
      {limit !== null && (
        <div
          role="meter"
          aria-label="Budget spent"
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.round(spent * 100)}
          aria-valuetext={`${formatCost(spent_usd)} of ${formatCost(limit_usd ?? "0")}, ${formatPercent(Number(spent_usd) / (limit || 1))}`}
        >
          <span class="spent" style={{ width: `${spent * 100}%` }} />
          <span class="held" style={{ width: `${Math.min(1 - spent, share(held_usd)) * 100}%` }} />
          <span class="mark" />
        </div>
      )}
      {alerts.map(({ percent, at }) => (
        <p key={percent}>{`${percent} % were reached on ${formatUtcDay(at)}.`}</p>
      ))}
      <p class="faint">
        {Number(held_usd) > 0 && `${formatCost(held_usd)} more are held for answers under way. `}
        {`Begins anew on ${formatUtcDay(resets_at)} (UTC).`}
      </p>
    </div>
  );
}

/** For who manages the organization. */
function LimitForm({ limit }: { limit: string | null }) {
  const [typed, setTyped] = useState(limit === null ? "" : writeAmount(limit));
  const amount = readAmount(typed, PLACES).value;
  const set = useAction(() => put(amount));
  const clear = useAction(() => put(null));
  const isBusy = set.isBusy || clear.isBusy;
  return (
    <form class="limit-form" onSubmit={set.run}>
      <AmountField
        label="Limit of a month, in US dollars"
        hint="At 80 and 100 percent an alert is shown here and sent to webhooks. Once it is spent, no model is called."
        isUsd
        places={PLACES}
        typed={typed}
        onType={setTyped}
      />
      <div class="limit-buttons">
        <Button
          type="submit"
          kind="primary"
          isBusy={isBusy}
          disabled={amount === null || Number(amount) === Number(limit ?? -1)}
        >
          Set the limit
        </Button>
        {limit !== null && (
          <Button isBusy={isBusy} onClick={clear.run}>
            Remove the limit
          </Button>
        )}
      </div>
      <FormError error={set.error ?? clear.error} />
    </form>
  );
}

async function put(monthly_limit_usd: string | null): Promise<void> {
  budget.value = await read(api.PUT("/api/v1/budget", { body: { monthly_limit_usd } }));
  tell(monthly_limit_usd === null ? "There is no limit any more." : "The limit is set.");
}
