import { useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { usePages } from "../api/use_pages";
import { copy } from "../text/clipboard";
import { formatDay } from "../text/format";
import { Button } from "../ui/button";
import { Field, SelectField } from "../ui/field";
import { Paged } from "../ui/paged";
import { Banner, FormError } from "../ui/states";
import { tell, tellError } from "../ui/toast";
import { useAction } from "../ui/use_action";
import { assignableRoles, toRole } from "./members_section";
import { type Role, roleDuty, roleName } from "./roles";

type Invitation = Schemas["InvitationOut"];
type Created = Schemas["CreatedInvitation"];

export function Invitations() {
  const pages = usePages(readInvitations);
  const [created, setCreated] = useState<Created | null>(null);
  function onCreated(invitation: Created) {
    setCreated(invitation);
    pages.reload();
  }
  async function revoke({ id, email }: Invitation) {
    try {
      const params = { path: { invitation_id: id } };
      await read(api.DELETE("/api/v1/organization/invitations/{invitation_id}", { params }));
      tell(`The invitation of ${email} is revoked.`);
      if (created?.id === id) setCreated(null);
    } catch (reason) {
      tellError(reason);
    }
    pages.reload();
  }
  return (
    <section class="card" aria-labelledby="invitations-title">
      <h2 id="invitations-title">Invite people</h2>
      <InviteForm onCreated={onCreated} />
      {created && <Delivered created={created} />}
      {(pages.error !== null || (pages.items && pages.items.length > 0)) && (
        <>
          <h3 class="list-title">Open invitations</h3>
          <Paged pages={pages} empty="Nobody is invited">
            {(invitations) => (
              <ul class="people" aria-label="Open invitations">
                {invitations.map((each) => (
                  <Row key={each.id} invitation={each} onRevoke={() => void revoke(each)} />
                ))}
              </ul>
            )}
          </Paged>
        </>
      )}
    </section>
  );
}

const readInvitations = (cursor: string | undefined) =>
  read(api.GET("/api/v1/organization/invitations", { params: { query: { limit: 100, ...(cursor && { cursor }) } } }));

function InviteForm({ onCreated }: { onCreated: (created: Created) => void }) {
  const [email, setEmail] = useState("");
  const [role, setRole] = useState<Role>("member");
  const { isBusy, error, run } = useAction(async () => {
    onCreated(await read(api.POST("/api/v1/organization/invitations", { body: { email, role } })));
    setEmail("");
  });
  return (
    <form class="form" onSubmit={run}>
      <div class="form-pair">
        <Field
          label="E-mail address"
          type="email"
          autocomplete="off"
          required
          maxLength={320}
          value={email}
          onInput={(event) => setEmail(event.currentTarget.value)}
        />
        <SelectField
          label="Role"
          hint={roleDuty(role)}
          value={role}
          onChange={(event) => setRole(toRole(event.currentTarget.value))}
        >
          {assignableRoles().map((each) => (
            <option key={each} value={each}>
              {roleName(each)}
            </option>
          ))}
        </SelectField>
      </div>
      <FormError error={error} />
      <Button kind="primary" type="submit" isBusy={isBusy}>
        Invite
      </Button>
    </form>
  );
}

/** What became of the invitation just made; its link is shown only now. */
function Delivered({ created: { delivery, email, link } }: { created: Created }) {
  if (delivery === "failed")
    return <Banner kind="error">The mail to {email} could not be sent. Check the address and invite again.</Banner>;
  if (!link) return <Banner>An e-mail with the invitation is on its way to {email}.</Banner>;
  // Without a public address of its own the server knows only the path.
  const address = new URL(link, window.location.origin).href;
  return (
    <div class="once" role="status">
      <p>No mail server is connected: give this link to {email} yourself, and to nobody else. It is shown only now.</p>
      <code>{address}</code>
      <Button icon="copy" onClick={() => void copy(address)}>
        Copy link
      </Button>
    </div>
  );
}

function Row({
  invitation: { email, role, inviter, expires_at },
  onRevoke,
}: {
  invitation: Invitation;
  onRevoke: () => void;
}) {
  return (
    <li>
      <div class="who">
        <span>
          <span class="clip" title={email}>
            {email}
          </span>
        </span>
        <span class="faint clip" title={inviter ?? ""}>
          Until {formatDay(expires_at)}
          {inviter && `, by ${inviter}`}
        </span>
      </div>
      <span>{roleName(role)}</span>
      <Button aria-label={`Revoke the invitation of ${email}`} onClick={onRevoke}>
        Revoke
      </Button>
    </li>
  );
}
