import { useState } from "preact/hooks";
import { IconButton } from "../ui/button";
import { copyText } from "./clipboard";

const COPIED_MS = 2000;

export function CodeBlock({ language, code }: { language: string; code: string }) {
  const [isCopied, setCopied] = useState(false);
  async function copy() {
    await copyText(code);
    setCopied(true);
    setTimeout(() => setCopied(false), COPIED_MS);
  }
  return (
    <div class="code-block">
      <div class="code-head">
        <span class="clip">{language}</span>
        <IconButton
          icon={isCopied ? "check" : "copy"}
          label={isCopied ? "Copied" : "Copy the code"}
          onClick={() => void copy().catch(() => undefined)}
        />
      </div>
      <pre tabIndex={0} dir="ltr">
        <code>{code}</code>
      </pre>
    </div>
  );
}
