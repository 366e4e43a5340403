import { may } from "../api/session";

/** What somebody can do about a limit or a budget that refused; empty for anything else. */
export function remedyFor(code: string): string {
  switch (code) {
    case "budget_exceeded":
      return may("manage_organization")
        ? "Raise it in the settings, under Budget."
        : "Ask an owner of the organization to raise it, or wait for the next month.";
    case "budget_reserved":
      return "Wait until the answers that are being written are complete.";
    case "too_many_streams":
      return "Wait until another answer is complete, or stop it.";
    case "tokens_per_day_exceeded":
      return "Wait until tomorrow (UTC), or ask an owner of the organization for a higher limit.";
    case "rate_limit_exceeded":
      return "Wait a moment.";
    default:
      return "";
  }
}
