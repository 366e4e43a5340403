import { useState } from "preact/hooks";
import { api, read } from "../api/client";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { SelectField } from "../ui/field";
import { tell } from "../ui/toast";
import { useAction } from "../ui/use_action";
import type { ApiKey, NewKey } from "./api_keys_section";

export type KeyStep = "rotate" | "revoke";

interface Props {
  apiKey: ApiKey;
  step: KeyStep;
  onClose: () => void;
  /** With the new secret, if there is one. */
  onDone: (secret: NewKey | null) => void;
}

const HOUR_S = 3600;
const OVERLAPS: readonly [seconds: number, label: string][] = [
  [0, "At once"],
  [HOUR_S, "In an hour"],
  [24 * HOUR_S, "In a day"],
  [7 * 24 * HOUR_S, "In a week"],
];

export function KeyDialog({ step, ...others }: Props) {
  return step === "rotate" ? <RotateDialog {...others} /> : <RevokeDialog {...others} />;
}

function RotateDialog({ apiKey: { id, name }, onClose, onDone }: Omit<Props, "step">) {
  const [overlapS, setOverlapS] = useState(HOUR_S);
  const { isBusy, error, run } = useAction(async () => {
    const params = { path: { key_id: id } };
    onDone(await read(api.POST("/api/v1/api-keys/{key_id}/rotate", { params, body: { overlap_s: overlapS } })));
  });
  const actions = (
    <>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind="primary" isBusy={isBusy} onClick={run}>
        Rotate
      </Button>
    </>
  );
  return (
    <Dialog title="Give the key a new secret?" onClose={onClose} actions={actions} error={error}>
      <p class="clip" dir="auto" title={name}>
        {name}
      </p>
      <SelectField
        label="The present secret ends"
        hint="So long both work, and programs can change over."
        value={overlapS}
        onChange={(event) => setOverlapS(Number(event.currentTarget.value))}
      >
        {OVERLAPS.map(([seconds, label]) => (
          <option key={seconds} value={seconds}>
            {label}
          </option>
        ))}
      </SelectField>
    </Dialog>
  );
}

function RevokeDialog({ apiKey: { id, name }, onClose, onDone }: Omit<Props, "step">) {
  const { isBusy, error, run } = useAction(async () => {
    await read(api.DELETE("/api/v1/api-keys/{key_id}", { params: { path: { key_id: id } } }));
    onDone(null);
    tell("The key is revoked.");
  });
  const actions = (
    <>
      <Button onClick={onClose}>Keep it</Button>
      <Button kind="danger" isBusy={isBusy} onClick={run}>
        Revoke
      </Button>
    </>
  );
  return (
    <Dialog title="Revoke this key?" onClose={onClose} actions={actions} error={error}>
      <p class="clip" dir="auto" title={name}>
        {name}
      </p>
      <p>Programs that use it are refused within seconds. It can’t be undone.</p>
    </Dialog>
  );
}
