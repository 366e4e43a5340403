import type { ComponentChildren } from "preact";
import { api, read, type Schemas } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { formatBytes, formatNumber } from "../text/format";
import { ErrorState, Loading } from "../ui/states";

type Limits = Schemas["OrganizationLimitsOut"];

interface Line {
  label: string;
  /** Null: without limit. */
  limit: number | null;
  /** Undefined: it is not counted here. */
  used?: number | undefined;
  format?: (value: number) => string;
}

const PLANS = { free: "Free", pro: "Pro", enterprise: "Enterprise" } as const;

export const planName = (plan: keyof typeof PLANS): string => PLANS[plan];

/** What the organization's plan allows, and how much of it is used now. */
export function PlanLimits() {
  const limits = useLoaded((signal) => read(api.GET("/api/v1/organization/limits", { signal })));
  const storage = useLoaded((signal) => read(api.GET("/api/v1/organization/storage", { signal }))).data;
  const { data, error, reload } = limits;
  return (
    <section class="card plan-limits" aria-labelledby="limits-title">
      <h2 id="limits-title">
        Limits <span class="badge">{data ? `Plan: ${planName(data.plan)}` : "Plan"}</span>
      </h2>
      {error ? <ErrorState error={error} onRetry={reload} /> : !data && <Loading />}
      {data && (
        <ul class="limits">
          {linesOf(data, storage).map((line) => (
            <LimitLine key={line.label} {...line} />
          ))}
        </ul>
      )}
      {data && <Shares limits={data} />}
    </section>
  );
}

function linesOf({ limits, used }: Limits, storage: Schemas["StorageUseOut"] | undefined): Line[] {
  return [
    { label: "Questions a minute", limit: limits.chat_per_minute, used: used.requests.chat ?? 0 },
    { label: "Searches a minute", limit: limits.search_per_minute, used: used.requests.search ?? 0 },
    { label: "Uploads a minute", limit: limits.upload_per_minute, used: used.requests.upload ?? 0 },
    { label: "Embedding units a minute", limit: limits.embedding_per_minute, used: used.requests.embedding ?? 0 },
    { label: "Requests a minute from one address", limit: limits.address_per_minute },
    { label: "Tokens a day", limit: limits.tokens_per_day, used: used.tokens_today },
    { label: "Answers at once", limit: limits.streams, used: used.streams },
    { label: "Storage", limit: limits.storage_bytes, used: storage?.bytes, format: formatBytes },
    { label: "Documents", limit: limits.documents, used: storage?.documents },
    { label: "Members", limit: limits.members },
    { label: "API keys", limit: limits.api_keys },
  ];
}

function LimitLine({ label, limit, used, format = formatNumber }: Line) {
  const words = limit === null ? "no limit" : format(limit);
  return (
    <li>
      <span>{label}</span>
      <span class="limit-figures">{used === undefined ? words : `${format(used)} of ${words}`}</span>
      {used !== undefined && limit !== null && (
        <Meter label={`${label}: used`}>
          <span style={{ width: `${Math.min(1, used / Math.max(limit, 1)) * 100}%` }} />
        </Meter>
      )}
    </li>
  );
}

/** Only to be seen: its figures stand above it. */
function Meter({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <div class="limit-bar" title={label} aria-hidden="true">
      {children}
    </div>
  );
}

function Shares({ limits: { limits } }: { limits: Limits }) {
  const { user_share_percent: user, key_share_percent: key } = limits;
  if (user === 100 && key === 100) return null;
  return <p class="faint">{`A member may take ${user} % of the rates and tokens, an API key ${key} %.`}</p>;
}
