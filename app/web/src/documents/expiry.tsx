import { useState } from "preact/hooks";
import { formatDay } from "../text/format";
import { Button } from "../ui/button";
import { tellError } from "../ui/toast";
import { useAction } from "../ui/use_action";
import { type DocumentOut, patchDocument } from "./actions";

interface Props {
  document: DocumentOut;
  onChanged: (document: DocumentOut) => void;
}

/** The day at whose end the document is deleted. */
export function Expiry({ document, onChanged }: Props) {
  const { id, expires_at } = document;
  const [isEditing, setEditing] = useState(false);
  async function save(next: string | null) {
    try {
      onChanged(await patchDocument(id, { expires_at: next }));
      setEditing(false);
    } catch (error) {
      tellError(error);
    }
  }

  if (isEditing) return <ExpiryForm onSave={(day) => save(endOf(day))} onCancel={() => setEditing(false)} />;
  return (
    <span class="expiry">
      {expires_at ? `After ${formatDay(expires_at)}` : "Never"}
      <button type="button" class="text-button" onClick={() => setEditing(true)}>
        {expires_at ? "Change" : "Set a day"}
      </button>
      {expires_at && (
        <button type="button" class="text-button" onClick={() => void save(null)}>
          Keep it
        </button>
      )}
    </span>
  );
}

function ExpiryForm({ onSave, onCancel }: { onSave: (day: string) => Promise<void>; onCancel: () => void }) {
  const [day, setDay] = useState("");
  const { isBusy, run } = useAction(() => onSave(day));
  return (
    <form class="expiry" onSubmit={run}>
      <input
        type="date"
        required
        min={today()}
        aria-label="Delete after"
        value={day}
        onInput={(event) => setDay(event.currentTarget.value)}
      />
      <Button type="submit" isBusy={isBusy}>
        Save
      </Button>
      <Button kind="quiet" onClick={onCancel}>
        Cancel
      </Button>
    </form>
  );
}

/** Days here are those of the person's own calendar. */
function endOf(day: string): string {
  return new Date(`${day}T23:59:59`).toISOString();
}

function today(): string {
  const now = new Date();
  return new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString().slice(0, 10);
}
