import { useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { may, user } from "../api/session";
import { useLoaded } from "../api/use_loaded";
import { usePages } from "../api/use_pages";
import { formatAgo, formatDay, formatMoment, formatUsd } from "../text/format";
import { Button } from "../ui/button";
import { Menu, type MenuItem } from "../ui/menu";
import { Paged } from "../ui/paged";
import { CreateKeyDialog } from "./create_key_dialog";
import { KeyDialog, type KeyStep } from "./key_dialog";
import { KeySecret } from "./key_secret";
import { loadMemberNames } from "./member_names";
import "./organization.css";

export type ApiKey = Schemas["ApiKeyOut"];
export type NewKey = Schemas["NewApiKey"];

const SCOPES: Record<ApiKey["scope"], string> = { read: "Reads", write: "Reads and writes", admin: "Everything" };

export const scopeName = (scope: ApiKey["scope"]): string => SCOPES[scope];

export function ApiKeysSection() {
  const [isEverybodys, setEverybodys] = useState(false);
  const [isCreating, setCreating] = useState(false);
  const [created, setCreated] = useState<NewKey | null>(null);
  const pages = usePages((cursor) => readKeys(isEverybodys, cursor), [isEverybodys]);
  function onCreated(key: NewKey) {
    setCreating(false);
    setCreated(key);
    pages.reload();
  }
  return (
    <section class="card" aria-labelledby="keys-title">
      <header class="card-head">
        <h2 id="keys-title">API keys</h2>
        <Button kind="primary" icon="plus" onClick={() => setCreating(true)}>
          New key
        </Button>
      </header>
      <p class="section-note">
        Programs use them instead of your password: Footnote’s own API, and any client of the OpenAI API.
      </p>
      {may("manage_organization") && (
        <label class="check">
          <input
            type="checkbox"
            checked={isEverybodys}
            onChange={(event) => setEverybodys(event.currentTarget.checked)}
          />
          <span>Show the keys of all members</span>
        </label>
      )}
      <Paged pages={pages} empty="There are no keys yet">
        {(keys) => <Keys keys={keys} onChange={pages.reload} onSecret={setCreated} />}
      </Paged>
      {isCreating && <CreateKeyDialog onClose={() => setCreating(false)} onCreated={onCreated} />}
      {created && <KeySecret created={created} onClose={() => setCreated(null)} />}
    </section>
  );
}

const readKeys = (isEverybodys: boolean, cursor: string | undefined) => {
  const query = { limit: 100, ...(isEverybodys && { all: true }), ...(cursor && { cursor }) };
  return read(api.GET("/api/v1/api-keys", { params: { query } }));
};

interface KeysProps {
  keys: readonly ApiKey[];
  onChange: () => void;
  onSecret: (key: NewKey) => void;
}

function Keys({ keys, onChange, onSecret }: KeysProps) {
  const [asked, setAsked] = useState<{ apiKey: ApiKey; step: KeyStep } | null>(null);
  const isOthers = keys.some(({ user_id }) => user_id !== user.value?.id);
  const names = useLoaded(async () => (isOthers ? loadMemberNames() : null), [isOthers]).data;
  function onDone(secret: NewKey | null) {
    setAsked(null);
    if (secret) onSecret(secret);
    onChange();
  }
  return (
    <>
      <ul class="people" aria-label="API keys">
        {keys.map((apiKey) => (
          <Row
            key={apiKey.id}
            apiKey={apiKey}
            maker={names?.get(apiKey.user_id)}
            onAsk={(step) => setAsked({ apiKey, step })}
          />
        ))}
      </ul>
      {asked && <KeyDialog {...asked} onClose={() => setAsked(null)} onDone={onDone} />}
    </>
  );
}

interface RowProps {
  apiKey: ApiKey;
  /** Undefined: not known yet. */
  maker: string | undefined;
  onAsk: (step: KeyStep) => void;
}

function Row({ apiKey, maker, onAsk }: RowProps) {
  const { name, last_chars, scope, user_id } = apiKey;
  const isOwn = user_id === user.value?.id;
  const rotate: MenuItem = { label: "Rotate", icon: "retry", onSelect: () => onAsk("rotate") };
  const revoke: MenuItem = { label: "Revoke", icon: "trash", isDanger: true, onSelect: () => onAsk("revoke") };
  return (
    <li>
      <div class="who">
        <span>
          <span class="clip" dir="auto" title={name}>
            {name}
          </span>
          <code class="faint" title="The end of the key">
            …{last_chars}
          </code>
        </span>
        <span class="faint">
          {!isOwn && <span dir="auto">{`${maker ?? "Another member"} · `}</span>}
          {[...factsOf(apiKey)].join(" · ")}
        </span>
      </div>
      <span>{scopeName(scope)}</span>
      <Menu label={`Actions for ${name}`} items={isOwn ? [rotate, revoke] : [revoke]} />
    </li>
  );
}

function* factsOf(key: ApiKey): Generator<string> {
  yield key.last_used_at ? `Used ${formatAgo(key.last_used_at)}` : "Never used";
  if (key.expires_at) yield `${isPast(key.expires_at) ? "Expired" : "Until"} ${formatDay(key.expires_at)}`;
  if (key.previous_expires_at && !isPast(key.previous_expires_at))
    yield `the key before works until ${formatMoment(key.previous_expires_at)}`;
  if (key.allowed_models) yield key.allowed_models.join(", ");
  if (key.requests_per_minute !== null) yield `${key.requests_per_minute} requests a minute`;
  if (key.tokens_per_day !== null) yield `${key.tokens_per_day} tokens a day`;
  if (key.monthly_budget_nano !== null)
    yield `${dollars(key.monthly_spent_nano)} of ${dollars(key.monthly_budget_nano)} this month`;
}

const dollars = (nano: number): string => formatUsd(String(nano / 1e9));

const isPast = (iso: string): boolean => Date.parse(iso) <= Date.now();
