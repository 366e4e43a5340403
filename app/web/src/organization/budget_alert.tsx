import { useEffect } from "preact/hooks";
import { may } from "../api/session";
import { Link } from "../router";
import { formatCost, formatUtcDay } from "../text/format";
import { IconButton } from "../ui/button";
import { Icon } from "../ui/icon";
import { budget, budgetAlert, dismissAlert, watchBudget } from "./budget_state";
import "./budget.css";

/** Above every view while most of the budget, or all of it, is spent. */
export function BudgetAlert() {
  useEffect(watchBudget, []);
  const level = budgetAlert.value;
  const known = budget.value;
  return (
    <div role="status" class="budget-alert-place">
      {level !== null && known && (
        <div class="budget-alert">
          <Icon name="warning" size={16} />
          <p>
            {level === 100
              ? `This month's budget of ${formatCost(known.limit_usd ?? "0")} is spent. Models answer again on ${formatUtcDay(known.resets_at)}, or with a higher limit. `
              : `${formatCost(known.spent_usd)} of this month's budget of ${formatCost(known.limit_usd ?? "0")} are spent. `}
            <Link href="/settings/budget">{may("manage_organization") ? "Change the budget" : "See the budget"}</Link>
          </p>
          <IconButton icon="close" label="Dismiss for this month" onClick={() => dismissAlert(level)} />
        </div>
      )}
    </div>
  );
}
