import { useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { may, refresh, user } from "../api/session";
import { usePages } from "../api/use_pages";
import { formatAgo } from "../text/format";
import { Menu, type MenuItem } from "../ui/menu";
import { Paged } from "../ui/paged";
import { tell, tellError } from "../ui/toast";
import { Invitations } from "./invitations";
import { MemberDialog, type MemberStep } from "./member_dialog";
import { ROLES, type Role, roleName } from "./roles";
import "./organization.css";

export type Member = Schemas["MemberOut"];

export function MembersSection() {
  const pages = usePages(readMembers);
  const [asked, setAsked] = useState<{ member: Member; step: MemberStep } | null>(null);
  return (
    <>
      <section class="card" aria-labelledby="members-title">
        <h2 id="members-title">Members</h2>
        <Paged pages={pages} empty="There are no members">
          {(members) => (
            <ul class="people">
              {members.map((member) => (
                <Row
                  key={member.user_id}
                  member={member}
                  onChange={pages.reload}
                  onAsk={(step) => setAsked({ member, step })}
                />
              ))}
            </ul>
          )}
        </Paged>
        {asked && <MemberDialog {...asked} onClose={() => setAsked(null)} onDone={pages.reload} />}
      </section>
      {may("manage_organization") && <Invitations />}
    </>
  );
}

const readMembers = (cursor: string | undefined) =>
  read(api.GET("/api/v1/organization/members", { params: { query: { limit: 100, ...(cursor && { cursor }) } } }));

interface RowProps {
  member: Member;
  onChange: () => void;
  onAsk: (step: MemberStep) => void;
}

function Row({ member, onChange, onAsk }: RowProps) {
  const { user_id, email, name, role, last_seen_at } = member;
  const isSelf = user_id === user.value?.id;
  return (
    <li>
      <div class="who">
        <span>
          <span class="clip" dir="auto" title={name || email}>
            {name || email}
          </span>
          {isSelf && <span class="badge">You</span>}
        </span>
        <span class="faint clip" title={email}>
          {name && `${email} · `}
          {last_seen_at ? `Seen ${formatAgo(last_seen_at)}` : "Not seen yet"}
        </span>
      </div>
      {mayChange(member) ? (
        <RoleChoice key={role} member={member} onChange={onChange} />
      ) : (
        <span>{roleName(role)}</span>
      )}
      <Menu label={`Actions for ${name || email}`} items={stepsFor(member, isSelf, onAsk)} />
    </li>
  );
}

/** Only owners touch owners, and make new ones. */
const mayChange = ({ role }: Member): boolean => may(role === "owner" ? "own_organization" : "manage_organization");

function stepsFor(member: Member, isSelf: boolean, onAsk: (step: MemberStep) => void): MenuItem[] {
  if (isSelf)
    return [{ label: "Leave the organization", icon: "sign-out", isDanger: true, onSelect: () => onAsk("leave") }];
  const handOver: MenuItem = { label: "Hand the organization over", icon: "users", onSelect: () => onAsk("transfer") };
  return [
    ...(may("own_organization") && member.role !== "owner" ? [handOver] : []),
    { label: "Remove", icon: "trash", isDanger: true, isDisabled: !mayChange(member), onSelect: () => onAsk("remove") },
  ];
}

function RoleChoice({ member, onChange }: { member: Member; onChange: () => void }) {
  const [role, setRole] = useState(member.role);
  async function change(next: Role) {
    setRole(next);
    try {
      await read(
        api.PATCH("/api/v1/organization/members/{user_id}", {
          params: { path: { user_id: member.user_id } },
          body: { role: next },
        }),
      );
      tell(`${member.name || member.email} is now: ${roleName(next)}.`);
      // One's own role decides what is shown here.
      if (member.user_id === user.peek()?.id) await refresh();
      onChange();
    } catch (error) {
      setRole(member.role);
      tellError(error);
    }
  }
  return (
    <select
      aria-label={`Role of ${member.name || member.email}`}
      value={role}
      onChange={(event) => void change(toRole(event.currentTarget.value))}
    >
      {assignableRoles().map((each) => (
        <option key={each} value={each}>
          {roleName(each)}
        </option>
      ))}
    </select>
  );
}

export const assignableRoles = (): readonly Role[] =>
  ROLES.filter((role) => role !== "owner" || may("own_organization"));

export const toRole = (value: string): Role => ROLES.find((role) => role === value) ?? "viewer";
