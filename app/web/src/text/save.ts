const UNFIT = /[/\\:*?"<>|\p{Cc}\p{Cf}]/gu;
const KEPT_MS = 60_000;

/** Saves bytes as a file of the person's downloads. */
export function saveAs(blob: Blob, filename: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = filename.replace(UNFIT, "_").slice(0, 200);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
}
