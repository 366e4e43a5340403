import { useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { user as self } from "../api/session";
import { usePages } from "../api/use_pages";
import { Badge } from "../documents/status";
import { roleName } from "../organization/roles";
import { formatDay } from "../text/format";
import { useDebounced } from "../text/use_debounced";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { SearchField } from "../ui/field";
import { Menu, type MenuItem } from "../ui/menu";
import { Paged } from "../ui/paged";
import { type Column, Table } from "../ui/table";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import "./admin.css";

type User = Schemas["AdminUserOut"];
type Patch = Schemas["AdminUserPatch"];

interface Change {
  user: User;
  patch: Patch;
  title: string;
  /** What follows from it. */
  note: string;
  done: string;
}

export function AdminUsersSection() {
  const [words, setWords] = useState("");
  const [asked, setAsked] = useState<Change | null>(null);
  const query = useDebounced(words);
  const pages = usePages(
    (cursor, signal) => {
      const params = { query: { query, ...(cursor && { cursor }) } };
      return read(api.GET("/api/v1/admin/users", { params, signal }));
    },
    [query],
  );
  return (
    <section class="card admin" aria-labelledby="users-title">
      <h2 id="users-title">All users</h2>
      <SearchField
        label="Find by address or name"
        maxLength={255}
        value={words}
        onInput={(event) => setWords(event.currentTarget.value)}
      />
      <Paged pages={pages} empty="There is nobody like that">
        {(users) => <Table label="Users" columns={columns(setAsked)} items={users} keyOf={({ id }) => id} />}
      </Paged>
      {asked && <ChangeDialog change={asked} onClose={() => setAsked(null)} onDone={pages.reload} />}
    </section>
  );
}

const columns = (ask: (change: Change) => void): Column<User>[] => [
  {
    label: "User",
    cell: ({ name, email }) => (
      <>
        {email}
        <span class="note" dir="auto">
          {name}
        </span>
      </>
    ),
  },
  {
    label: "Organizations",
    cell: ({ organizations }) =>
      organizations.map(({ org_id, name, role }) => (
        <div key={org_id}>
          <span dir="auto">{name}</span> <span class="faint">{roleName(role)}</span>
        </div>
      )),
  },
  { label: "Since", cell: ({ created_at }) => formatDay(created_at) },
  {
    label: "State",
    cell: ({ is_active, is_operator }) => (
      <span class="states">
        <Badge kind={is_active ? "ready" : "failed"}>{is_active ? "On" : "Off"}</Badge>
        {is_operator && <span class="badge">Operator</span>}
      </span>
    ),
  },
  {
    label: "Actions",
    isActions: true,
    cell: (user) => <Menu label={`Actions for ${user.email}`} items={changesOf(user, ask)} />,
  },
];

function changesOf(user: User, ask: (change: Change) => void): MenuItem[] {
  const isSelf = user.id === self.value?.id;
  const { is_active, is_operator } = user;
  const toggle: Change = is_active
    ? {
        ...{ user, patch: { is_active: false }, title: "Switch this user off?", done: "The user is off." },
        note: "They are signed out, and their API keys stop. Nothing of theirs is deleted.",
      }
    : {
        ...{ user, patch: { is_active: true }, title: "Switch this user on?", done: "The user is on." },
        note: "They can sign in again.",
      };
  const operate: Change = is_operator
    ? {
        ...{
          user,
          patch: { is_operator: false },
          title: "Make them no operator any more?",
          done: "No operator any more.",
        },
        note: "They don't see these pages any more.",
      }
    : {
        ...{ user, patch: { is_operator: true }, title: "Make them an operator?", done: "They are an operator now." },
        note: "They see all users and organizations, and set limits and prices. Documents of others stay closed to them.",
      };
  return [
    {
      ...{ label: is_active ? "Switch off" : "Switch on", icon: is_active ? "lock" : "check", isDanger: is_active },
      ...{ isDisabled: isSelf && is_active, onSelect: () => ask(toggle) },
    },
    {
      ...{ label: is_operator ? "No operator any more" : "Make an operator", icon: "key" },
      ...{ isDisabled: isSelf && is_operator, onSelect: () => ask(operate) },
    },
  ];
}

interface ChangeProps {
  change: Change;
  onClose: () => void;
  onDone: () => void;
}

function ChangeDialog({ change: { user, patch, title, note, done }, onClose, onDone }: ChangeProps) {
  const { isBusy, error, run } = useAction(async () => {
    await read(api.PATCH("/api/v1/admin/users/{user_id}", { params: { path: { user_id: user.id } }, body: patch }));
    tell(done);
    onClose();
    onDone();
  });
  const isDanger = patch.is_active === false;
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind={isDanger ? "danger" : "primary"} isBusy={isBusy} onClick={run}>
        {isDanger ? "Switch off" : "Confirm"}
      </Button>
    </>
  );
  return (
    <Dialog title={title} onClose={onClose} actions={actions} error={error}>
      <p class="named">{user.email}</p>
      <p>{note}</p>
    </Dialog>
  );
}
