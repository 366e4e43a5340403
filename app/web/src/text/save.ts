const UNFIT = /[/\\:*?"<>|\p{Cc}\p{Cf}]/gu;
const PARTS = /^(.*?)(\.[^.]{1,10})?$/su;
const MAX_STEM = 180;
const KEPT_MS = 60_000;

/** Saves bytes as a file of the person's downloads. */
export function saveAs(blob: Blob, filename: string): void {
  const [, stem = "", suffix = ""] = PARTS.exec(filename.replace(UNFIT, "_")) ?? [];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = [...stem].slice(0, MAX_STEM).join("") + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
}
