/** Who sees a document: everybody in the organization, or who uploaded it alone. */
import { useState } from "preact/hooks";
import { may, perUser } from "../api/session";
import { Icon } from "../ui/icon";
import { tell, tellError } from "../ui/toast";
import { type DocumentOut, patchDocument } from "./actions";
import "./visibility.css";

/** Whether what is uploaded next is private. */
export const isPrivateNext = perUser(false);

export function PrivateMark() {
  return (
    <span class="private-mark" title="Only you see it">
      <Icon name="lock" size={14} />
      Private
    </span>
  );
}

/** Beside the buttons that add documents. */
export function PrivateChoice() {
  return (
    <label class="private-choice">
      <input
        type="checkbox"
        checked={isPrivateNext.value}
        onChange={(event) => (isPrivateNext.value = event.currentTarget.checked)}
      />
      <Icon name="lock" size={16} />
      Only for me
    </label>
  );
}

interface Props {
  document: DocumentOut;
  onChanged: (document: DocumentOut) => void;
}

export function VisibilityFact({ document, onChanged }: Props) {
  const [isBusy, setBusy] = useState(false);
  const isPrivate = document.visibility === "private";
  async function change() {
    setBusy(true);
    try {
      onChanged(await patchDocument(document.id, { visibility: isPrivate ? "shared" : "private" }));
      tell(isPrivate ? "Everybody in the organization sees it now." : "Only you see it now.");
    } catch (error) {
      tellError(error);
    }
    setBusy(false);
  }
  return (
    <span class="expiry">
      {isPrivate ? "You alone" : "Everybody in the organization"}
      {may("write") && (
        <button type="button" class="text-button" disabled={isBusy} onClick={() => void change()}>
          {isPrivate ? "Share it" : "Make it private"}
        </button>
      )}
    </span>
  );
}
