import { useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { may, organization, renameOrganization } from "../api/session";
import { useLoaded } from "../api/use_loaded";
import { Button } from "../ui/button";
import { Field, TextAreaField } from "../ui/field";
import { ErrorState, FormError, Loading } from "../ui/states";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import { DeleteOrganizationDialog } from "./delete_organization";
import { roleDuty, roleName } from "./roles";
import "./organization.css";

type Settings = Schemas["OrganizationSettingsOut"];

export function OrganizationSection() {
  const { data, error, reload } = useLoaded(() => read(api.GET("/api/v1/organization")));
  if (error) return <ErrorState error={error} onRetry={reload} />;
  if (!data) return <Loading />;
  return (
    <>
      <section class="card" aria-labelledby="organization-title">
        <h2 id="organization-title">Your organization</h2>
        {may("manage_organization") ? <SettingsForm settings={data} /> : <Facts settings={data} />}
      </section>
      {may("own_organization") && <Deletion name={organization.value?.name ?? data.name} />}
    </>
  );
}

function Facts({ settings }: { settings: Settings }) {
  const role = organization.value?.role;
  return (
    <dl class="facts">
      <dt>Name</dt>
      <dd dir="auto">{settings.name}</dd>
      <dt>Your role</dt>
      <dd>
        {role && roleName(role)}
        {role && <p class="faint">{roleDuty(role)}</p>}
      </dd>
      <dt>Told to every model</dt>
      <dd dir="auto" class="own-lines">
        {settings.system_prompt || "Nothing besides our own instructions"}
      </dd>
    </dl>
  );
}

function SettingsForm({ settings }: { settings: Settings }) {
  const [name, setName] = useState(settings.name);
  const [prompt, setPrompt] = useState(settings.system_prompt);
  const [isStrict, setStrict] = useState(settings.reject_prompt_injection);
  const { isBusy, error, run } = useAction(async () => {
    const body = { name, system_prompt: prompt, reject_prompt_injection: isStrict };
    const saved = await read(api.PATCH("/api/v1/organization", { body }));
    setName(saved.name);
    renameOrganization(saved.name);
    tell("The organization is saved. It holds from the next question on.");
  });
  return (
    <form class="form" onSubmit={run}>
      <Field
        label="Name"
        dir="auto"
        required
        maxLength={100}
        value={name}
        onInput={(event) => setName(event.currentTarget.value)}
      />
      <TextAreaField
        label="Told to every model"
        hint="For example: Answer in German. Use our house style."
        dir="auto"
        rows={4}
        maxLength={4000}
        value={prompt}
        onInput={(event) => setPrompt(event.currentTarget.value)}
      />
      <label class="check">
        <input type="checkbox" checked={isStrict} onChange={(event) => setStrict(event.currentTarget.checked)} />
        <span>
          Refuse questions that look like prompt injection
          <span class="faint">They are asked to put it in other words.</span>
        </span>
      </label>
      <FormError error={error} />
      <Button kind="primary" type="submit" isBusy={isBusy}>
        Save
      </Button>
    </form>
  );
}

function Deletion({ name }: { name: string }) {
  const [isAsking, setAsking] = useState(false);
  return (
    <section class="card" aria-labelledby="delete-title">
      <h2 id="delete-title">Delete the organization</h2>
      <p class="section-note">
        With all its documents, chats, keys and members’ access, for good. You get a receipt that says what was removed.
      </p>
      <Button kind="danger" icon="trash" onClick={() => setAsking(true)}>
        Delete organization
      </Button>
      {isAsking && <DeleteOrganizationDialog name={name} onClose={() => setAsking(false)} />}
    </section>
  );
}
