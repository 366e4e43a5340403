import { copy } from "../text/clipboard";
import { Button } from "../ui/button";

interface CopyableProps {
  /** What the text is. */
  label: string;
  /** The words of the button. */
  action: string;
  text: string;
}

/** A text as it is, to be taken elsewhere. */
export function Copyable({ label, action, text }: CopyableProps) {
  return (
    <div class="once" role="group" aria-label={label}>
      <code dir="auto">{text}</code>
      <Button icon="copy" onClick={() => void copy(text)}>
        {action}
      </Button>
    </div>
  );
}
