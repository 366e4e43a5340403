/** As high as its text; the style sheet says how high it may become. */
export function fitHeight(area: HTMLTextAreaElement | null): void {
  if (!area) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}

/** Enter, unless it makes a new line or ends a word of an input method. */
export function isSubmit(event: KeyboardEvent): boolean {
  // Safari ends a composition before it tells of the key: then only the old code shows it.
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}
