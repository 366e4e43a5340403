import { useState } from "preact/hooks";
import { ACTIONS, actionName } from "./audit_actions";

/** Days are those of the person's calendar; an empty string lets all through. */
export interface AuditFilter {
  action: string;
  userId: string;
  firstDay: string;
  lastDay: string;
}

export const NO_FILTER: AuditFilter = { action: "", userId: "", firstDay: "", lastDay: "" };

interface FiltersProps {
  filter: AuditFilter;
  onChange: (filter: AuditFilter) => void;
  /** Who can be chosen: what they are called, by id. */
  people: ReadonlyMap<string, string>;
  /** Where there are too many to list them: how they are found. */
  onFindPeople?: (words: string) => void;
}

export function AuditFilters({ filter, onChange, people, onFindPeople }: FiltersProps) {
  const change = (changed: Partial<AuditFilter>) => onChange({ ...filter, ...changed });
  return (
    <div class="audit-filters" role="search" aria-label="Audit log">
      <select
        aria-label="Action"
        value={filter.action}
        onChange={(event) => change({ action: event.currentTarget.value })}
      >
        <option value="">Every action</option>
        {ACTIONS.map((action) => (
          <option key={action} value={action}>
            {actionName(action)}
          </option>
        ))}
      </select>
      {onFindPeople && <PersonSearch onFind={onFindPeople} />}
      <select
        aria-label="Person"
        value={filter.userId}
        onChange={(event) => change({ userId: event.currentTarget.value })}
      >
        <option value="">Everybody</option>
        {[...people].map(([id, name]) => (
          <option key={id} value={id}>
            {name}
          </option>
        ))}
      </select>
      <label class="audit-day">
        From
        <input
          type="date"
          max={filter.lastDay}
          value={filter.firstDay}
          onChange={(event) => change({ firstDay: event.currentTarget.value })}
        />
      </label>
      <label class="audit-day">
        To
        <input
          type="date"
          min={filter.firstDay}
          value={filter.lastDay}
          onChange={(event) => change({ lastDay: event.currentTarget.value })}
        />
      </label>
    </div>
  );
}

function PersonSearch({ onFind }: { onFind: (words: string) => void }) {
  const [words, setWords] = useState("");
  return (
    <input
      type="search"
      dir="auto"
      aria-label="Find a person"
      placeholder="Find a person"
      maxLength={255}
      value={words}
      onInput={(event) => {
        setWords(event.currentTarget.value);
        onFind(event.currentTarget.value);
      }}
    />
  );
}

/** As the API takes it: from the first moment of the first day to the last one of the last. */
export function queryOf({ action, userId, firstDay, lastDay }: AuditFilter) {
  return {
    ...(action && { action }),
    ...(userId && { user_id: userId }),
    ...(firstDay && { since: midnight(firstDay, 0) }),
    ...(lastDay && { until: midnight(lastDay, 1) }),
  };
}

/** The midnight with which a day begins where the person is, or one of those after it. */
function midnight(day: string, later: number): string {
  const date = new Date(`${day}T00:00`);
  date.setDate(date.getDate() + later);
  return date.toISOString();
}
