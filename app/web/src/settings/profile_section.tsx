import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { messageOf } from "../api/errors";
import { organization, updateUser, user } from "../api/session";
import { roleName } from "../organization/roles";
import { type Theme, theme } from "../theme";
import { Button } from "../ui/button";
import { Field } from "../ui/field";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";

const THEMES: [Theme, string][] = [
  ["system", "As the system"],
  ["light", "Light"],
  ["dark", "Dark"],
];

export function ProfileSection() {
  return (
    <>
      <section class="card" aria-labelledby="profile-title">
        <h2 id="profile-title">You</h2>
        <NameForm />
        <dl class="facts">
          <dt>E-mail address</dt>
          <dd>{user.value?.email}</dd>
          <dt>Organization</dt>
          <dd dir="auto">{organization.value?.name}</dd>
          <dt>Your role</dt>
          <dd>{organization.value && roleName(organization.value.role)}</dd>
        </dl>
      </section>
      <section class="card" aria-labelledby="appearance-title">
        <h2 id="appearance-title">Appearance</h2>
        <fieldset class="choices">
          <legend class="visually-hidden">Appearance</legend>
          {THEMES.map(([value, label]) => (
            <label key={value}>
              <input
                type="radio"
                name="theme"
                value={value}
                checked={theme.value === value}
                onChange={() => (theme.value = value)}
              />
              {label}
            </label>
          ))}
        </fieldset>
      </section>
    </>
  );
}

function NameForm() {
  const [name, setName] = useState(user.value?.name ?? "");
  const { isBusy, error, run } = useAction(async () => {
    const changed = await read(api.PATCH("/api/v1/auth/me", { body: { name } }));
    updateUser(changed.user);
    setName(changed.user.name);
    tell("Your name is saved.");
  });
  return (
    <form class="inline-form" onSubmit={run}>
      <Field
        label="Name"
        autocomplete="name"
        dir="auto"
        maxLength={100}
        value={name}
        error={error ? messageOf(error) : null}
        onInput={(event) => setName(event.currentTarget.value)}
      />
      <Button type="submit" isBusy={isBusy} disabled={name === user.value?.name}>
        Save
      </Button>
    </form>
  );
}
