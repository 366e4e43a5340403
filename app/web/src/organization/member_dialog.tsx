import { api, read } from "../api/client";
import { refresh, signOut } from "../api/session";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import type { Member } from "./members_section";

export type MemberStep = "remove" | "leave" | "transfer";

interface Words {
  title: string;
  text: string;
  action: string;
}

interface Props {
  member: Member;
  step: MemberStep;
  onClose: () => void;
  onDone: () => void;
}

/** Says what happens to a member, then does it. */
export function MemberDialog({ member, step, onClose, onDone }: Props) {
  const { title, text, action } = wordsFor(member, step);
  const { isBusy, error, run } = useAction(async () => {
    await act(member, step);
    onClose();
    if (step === "leave") return;
    onDone();
    tell(step === "remove" ? "The member is removed." : "The organization is handed over.");
  });
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind={step === "transfer" ? "primary" : "danger"} isBusy={isBusy} onClick={run}>
        {action}
      </Button>
    </>
  );
  return (
    <Dialog title={title} onClose={onClose} actions={actions} error={error}>
      <p class="clip" dir="auto" title={member.email}>
        {member.name || member.email}
      </p>
      <p>{text}</p>
    </Dialog>
  );
}

function wordsFor({ email }: Member, step: MemberStep): Words {
  if (step === "transfer")
    return {
      title: "Hand the organization over?",
      text: `${email} becomes its owner, and you an administrator.`,
      action: "Hand over",
    };
  const what = "Documents that are shared stay; private ones are deleted with their API keys.";
  if (step === "leave")
    return {
      title: "Leave the organization?",
      text: `You are signed out, and your API keys here end. ${what}`,
      action: "Leave",
    };
  return {
    title: "Remove this member?",
    text: `Their sign-ins, API keys and running answers here end within seconds. ${what}`,
    action: "Remove",
  };
}

async function act({ user_id }: Member, step: MemberStep): Promise<void> {
  if (step === "transfer") {
    await read(api.POST("/api/v1/organization/transfer", { body: { user_id } }));
    await refresh();
    return;
  }
  await read(api.DELETE("/api/v1/organization/members/{user_id}", { params: { path: { user_id } } }));
  if (step === "leave") await signOut().catch(() => undefined);
}
