import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { may } from "../api/session";
import { type Loaded, useLoaded } from "../api/use_loaded";
import { count, formatCost, formatNumber, formatUtcDay } from "../text/format";
import { Banner, ErrorState, Loading } from "../ui/states";
import { loadMemberNames } from "./member_names";
import { fillDays, lastDays, loadUsage, METRICS, type Metric, type Period, TOKENS, type Usage } from "./usage_data";
import { DayPlot } from "./usage_day_plot";
import { PeriodPicker } from "./usage_period";
import { PlotCard } from "./usage_plot_card";
import { modelName, Ranking } from "./usage_ranking";
import "./usage.css";

/** Who manages the organization sees all of its use, anybody else their own. */
export function UsageSection() {
  const [period, setPeriod] = useState(lastDays(30));
  const [metric, setMetric] = useState(TOKENS);
  const inputs = [period.from, period.to];
  const byDay = useLoaded((signal) => loadUsage(period, "day", signal), inputs);
  const byModel = useLoaded((signal) => loadUsage(period, "model", signal), inputs);
  const seesAll = may("manage_organization");
  const day = { label: "Day", cell: (row: { day: string }) => formatUtcDay(row.day) };
  return (
    <div class="usage">
      <PeriodPicker period={period} onChange={setPeriod} />
      {!seesAll && <Banner>You see your own use. Who manages the organization sees that of everybody.</Banner>}
      <Totals usage={byDay} />
      <MetricChoice metric={metric} onChange={setMetric} />
      <PlotCard title="By day" usage={byDay} rowsOf={fillDays} name={day} keyOf={(row) => row.day}>
        {(days) => <DayPlot days={days} metric={metric} />}
      </PlotCard>
      <PlotCard
        title="By model"
        usage={byModel}
        rowsOf={(usage) => usage.rows}
        name={{ label: "Model", cell: modelName }}
        keyOf={modelName}
      >
        {(rows) => <Ranking rows={rows} metric={metric} nameOf={modelName} />}
      </PlotCard>
      {seesAll && <ByMember period={period} metric={metric} />}
    </div>
  );
}

function ByMember({ period, metric }: { period: Period; metric: Metric }) {
  const usage = useLoaded((signal) => loadUsage(period, "user", signal), [period.from, period.to]);
  const names = useLoaded(loadMemberNames).data;
  const nameOf = ({ user_id }: { user_id?: string | null }) =>
    names?.get(user_id ?? "") ?? (names ? "Somebody who is no member now" : "…");
  return (
    <PlotCard
      title="By member"
      usage={usage}
      rowsOf={({ rows }) => rows}
      name={{ label: "Member", cell: (row) => <span dir="auto">{nameOf(row)}</span> }}
      keyOf={(row) => row.user_id ?? ""}
    >
      {(rows) => <Ranking rows={rows} metric={metric} nameOf={nameOf} />}
    </PlotCard>
  );
}

function Totals({ usage: { data, error, reload } }: { usage: Loaded<Usage> }) {
  if (error) return <ErrorState error={error} onRetry={reload} />;
  if (!data) return <Loading />;
  const { input_tokens, output_tokens, cached_tokens, cost_usd, requests, errors, unknown_cost_calls } = data.totals;
  const isUnknown = unknown_cost_calls > 0;
  return (
    <section class="card" aria-label="Totals">
      <dl class="figures">
        <Figure label="Tokens" value={formatNumber(input_tokens + output_tokens)}>
          {`${formatNumber(input_tokens)} in, ${formatNumber(output_tokens)} out`}
          {cached_tokens > 0 && `, ${formatNumber(cached_tokens)} cached`}
        </Figure>
        <Figure label="Cost" value={cost_usd === null ? "Unknown" : formatCost(cost_usd)}>
          {isUnknown && `and that of ${count(unknown_cost_calls, "call")} without a known price`}
        </Figure>
        <Figure label="Requests" value={formatNumber(requests)}>
          {errors > 0 && `${formatNumber(errors)} of them failed`}
        </Figure>
      </dl>
    </section>
  );
}

function Figure({ label, value, children }: { label: string; value: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>
        <span>{value}</span>
        <span class="figure-note">{children}</span>
      </dd>
    </div>
  );
}

function MetricChoice({ metric, onChange }: { metric: Metric; onChange: (metric: Metric) => void }) {
  return (
    <fieldset class="metric-choice">
      <legend class="visually-hidden">What the plots show</legend>
      {METRICS.map((each) => (
        <label key={each.name}>
          <input
            type="radio"
            name="metric"
            class="visually-hidden"
            checked={each === metric}
            onChange={() => onChange(each)}
          />
          {each.title}
        </label>
      ))}
    </fieldset>
  );
}
