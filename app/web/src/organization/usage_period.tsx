import { useState } from "preact/hooks";
import { may } from "../api/session";
import { saveAs } from "../text/save";
import { Menu } from "../ui/menu";
import { tellError } from "../ui/toast";
import { lastDays, loadUsageCsv, month, type Period, today } from "./usage_data";

const PERIODS: readonly { name: string; title: string; period: () => Period }[] = [
  { name: "7", title: "Last 7 days", period: () => lastDays(7) },
  { name: "30", title: "Last 30 days", period: () => lastDays(30) },
  { name: "90", title: "Last 90 days", period: () => lastDays(90) },
  { name: "month", title: "This month", period: () => month(0) },
  { name: "last-month", title: "Last month", period: () => month(1) },
  { name: "year", title: "Last 12 months", period: () => lastDays(365) },
];
const OWN = "own";
const MAX_DAYS = 731;

interface PickerProps {
  period: Period;
  onChange: (period: Period) => void;
}

/** Which days are shown; days are those of UTC. */
export function PeriodPicker({ period, onChange }: PickerProps) {
  const [name, setName] = useState("30");
  function choose(chosen: string) {
    setName(chosen);
    const preset = PERIODS.find((each) => each.name === chosen);
    if (preset) onChange(preset.period());
  }
  return (
    <div class="period">
      <select aria-label="Period" value={name} onChange={(event) => choose(event.currentTarget.value)}>
        {PERIODS.map((each) => (
          <option key={each.name} value={each.name}>
            {each.title}
          </option>
        ))}
        <option value={OWN}>Other days</option>
      </select>
      {name === OWN && <DayInputs period={period} onChange={onChange} />}
      <span class="faint">Days in UTC</span>
      <Download period={period} />
    </div>
  );
}

function DayInputs({ period, onChange }: PickerProps) {
  function change(changed: Partial<Period>) {
    const next = { ...period, ...changed };
    const days = (Date.parse(next.to) - Date.parse(next.from)) / 86_400_000;
    // An input that is being typed into may be empty or of the year 2.
    if (days >= 0 && days < MAX_DAYS) onChange(next);
  }
  return (
    <>
      <input
        type="date"
        aria-label="First day"
        max={period.to}
        value={period.from}
        onChange={(event) => change({ from: event.currentTarget.value })}
      />
      <input
        type="date"
        aria-label="Last day"
        min={period.from}
        max={today()}
        value={period.to}
        onChange={(event) => change({ to: event.currentTarget.value })}
      />
    </>
  );
}

function Download({ period }: { period: Period }) {
  async function save(groupBy: string) {
    try {
      saveAs(await loadUsageCsv(period, groupBy), `usage-${period.from}-${period.to}.csv`);
    } catch (error) {
      tellError(error);
    }
  }
  const items = [
    { label: "Days and models", onSelect: () => void save("day,model") },
    { label: "Days and API keys", onSelect: () => void save("day,key") },
    ...(may("manage_organization") ? [{ label: "Days and members", onSelect: () => void save("day,user") }] : []),
  ];
  return <Menu label="Download as CSV" icon="download" items={items} />;
}
