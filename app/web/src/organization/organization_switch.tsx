import { useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { organization, perUser, switchOrganization } from "../api/session";
import { navigate, route } from "../router";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Field } from "../ui/field";
import { Icon } from "../ui/icon";
import { Menu, type MenuItem } from "../ui/menu";
import { tell, tellError } from "../ui/toast";
import { useAction } from "../ui/use_action";
import "./organization_switch.css";

type Joined = Pick<Schemas["JoinedOrganizationOut"], "id" | "name">;

/** Those that one is a member of; empty until the menu is opened. */
const joined = perUser<readonly Joined[]>([]);

/** The present organization; behind it the others, and a new one. */
export function OrganizationSwitch() {
  const [isCreating, setCreating] = useState(false);
  const here = organization.value;
  if (!here) return null;
  const others = joined.value.filter(({ id }) => id !== here.id);
  const items: MenuItem[] = [
    { key: here.id, label: here.name, isOn: true, onSelect: () => navigate("/settings/organization") },
    ...others.map((each) => ({
      key: each.id,
      label: each.name,
      isOn: false,
      onSelect: () => void goTo(each).catch(tellError),
    })),
    { label: "New organization", icon: "plus", onSelect: () => setCreating(true) },
  ];
  const opener = (
    <span class="organization-opener">
      <span class="visually-hidden">Organization: </span>
      <Icon name="building" size={16} />
      <span class="clip" dir="auto" title={here.name}>
        {here.name}
      </span>
      <Icon name="chevron-down" size={16} />
    </span>
  );
  return (
    <>
      <Menu label="Organizations" items={items} opener={opener} opensUp onOpen={() => void load().catch(tellError)} />
      {isCreating && <CreateDialog onClose={() => setCreating(false)} />}
    </>
  );
}

async function load(): Promise<void> {
  joined.value = (await read(api.GET("/api/v1/organizations"))).items;
}

/** Goes on in another organization. What was open of this one is closed. */
export async function goTo({ id, name }: Joined): Promise<void> {
  if (["chat", "document"].includes(route.value.name)) navigate("/");
  await switchOrganization(id);
  tell(`You are now in ${name}.`);
}

function CreateDialog({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const { isBusy, error, run } = useAction(async () => {
    const created = await read(api.POST("/api/v1/organizations", { body: { name } }));
    onClose();
    await goTo(created).catch(tellError);
  });
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind="primary" isBusy={isBusy} disabled={!name.trim()} onClick={run}>
        Create
      </Button>
    </>
  );
  return (
    <Dialog title="New organization" onClose={onClose} actions={actions} error={error}>
      <form onSubmit={run}>
        <Field
          label="Name"
          autofocus
          hint="It has documents, members and limits of its own, and you own it."
          dir="auto"
          required
          maxLength={100}
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
      </form>
    </Dialog>
  );
}
