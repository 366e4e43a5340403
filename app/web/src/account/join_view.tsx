/** The page of an invitation's link: who invites to what, then in by an account of the invited address. */
import { useEffect, useState } from "preact/hooks";
import { api, read, type Schemas } from "../api/client";
import { ApiError } from "../api/errors";
import { signOut, switchOrganization, user } from "../api/session";
import { useLoaded } from "../api/use_loaded";
import { roleDuty, roleName } from "../organization/roles";
import { Link, navigate, useTitle } from "../router";
import { formatDay } from "../text/format";
import { Button } from "../ui/button";
import { EmptyState, ErrorState, FormError, Loading } from "../ui/states";
import { tell, tellError } from "../ui/toast";
import { useAction } from "../ui/use_action";
import { Credentials, OtherWay } from "./sign_in_view";
import "./join_view.css";

type Offer = Schemas["OfferOut"];

export function JoinView() {
  useTitle("Invitation");
  const [token] = useState(() => window.location.hash.slice(1));
  const {
    data: offer,
    error,
    reload,
  } = useLoaded(() => read(api.POST("/api/v1/invitations/look-up", { body: { token } })));
  return (
    <main class="join">
      <div class="join-card">
        <p class="brand">Footnote</p>
        {error ? (
          <Refused error={error} onRetry={reload} />
        ) : offer ? (
          <Invited offer={offer} token={token} />
        ) : (
          <Loading />
        )}
      </div>
    </main>
  );
}

function Refused({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  const isOver = error instanceof ApiError && (error.status === 404 || error.status === 422);
  if (!isOver) return <ErrorState error={error} onRetry={onRetry} />;
  return (
    <EmptyState icon="warning" title="This invitation does not work" isPage>
      <p>It was used, it has ended, or the link is incomplete. Ask who sent it for a new one.</p>
      <Link href="/">Go to Footnote</Link>
    </EmptyState>
  );
}

function Invited({ offer, token }: { offer: Offer; token: string }) {
  // Who comes by the form below has said what they want.
  const [isSure, setSure] = useState(false);
  const here = user.value;
  return (
    <>
      <header class="join-offer">
        <p>You are invited to</p>
        <h1 dir="auto">{offer.organization}</h1>
        <dl class="facts">
          <dt>Your role</dt>
          <dd>
            {roleName(offer.role)}
            <span class="faint">{roleDuty(offer.role)}</span>
          </dd>
          <dt>For</dt>
          <dd>{offer.email}</dd>
          <dt>Until</dt>
          <dd>{formatDay(offer.expires_at)}</dd>
        </dl>
      </header>
      {here === null ? (
        <Entrance email={offer.email} onEnter={() => setSure(true)} />
      ) : here.email === offer.email ? (
        <Acceptance token={token} isSure={isSure} />
      ) : (
        <OtherPerson email={here.email} />
      )}
    </>
  );
}

function Entrance({ email, onEnter }: { email: string; onEnter: () => void }) {
  const [isNew, setNew] = useState(true);
  return (
    <section aria-label={isNew ? "Create your account" : "Sign in"}>
      <Credentials key={String(isNew)} isNew={isNew} fixedEmail={email} onEnter={onEnter} />
      <OtherWay isNew={isNew} onSwitch={() => setNew(!isNew)} />
    </section>
  );
}

function Acceptance({ token, isSure }: { token: string; isSure: boolean }) {
  const [joined, setJoined] = useState<Schemas["JoinedOrganizationOut"] | null>(null);
  const { isBusy, error, run } = useAction(async () => {
    const into = joined ?? (await read(api.POST("/api/v1/invitations/accept", { body: { token } })));
    // The invitation is used up: what fails now is tried again without it.
    setJoined(into);
    await switchOrganization(into.id);
    navigate("/", { replace: true });
    tell(`You are now a member of ${into.name}.`);
  });
  useEffect(() => {
    if (isSure) run();
  }, []);
  return (
    <div class="join-actions">
      <FormError error={error} />
      <Button kind="primary" isBusy={isBusy} onClick={run}>
        Join
      </Button>
      <Link href="/">Not now</Link>
    </div>
  );
}

function OtherPerson({ email }: { email: string }) {
  return (
    <div class="join-actions">
      <p>You are signed in as {email}. Sign out to join with the invited address.</p>
      <Button kind="primary" icon="sign-out" onClick={() => void signOut().catch(tellError)}>
        Sign out
      </Button>
      <Link href="/">Not now</Link>
    </div>
  );
}
