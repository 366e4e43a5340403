import { tell } from "../ui/toast";

/** Puts text on the clipboard, and says whether that was possible. */
export async function copy(text: string): Promise<void> {
  try {
    await write(text);
    tell("Copied");
  } catch {
    tell("Your browser does not allow copying. Select the text and copy it.");
  }
}

/** Pages over plain http, but for loopback, have no `navigator.clipboard`. */
async function write(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (!isCopied) throw new Error("the browser did not copy");
}
