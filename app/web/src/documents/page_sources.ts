import type { ReportPage } from "./use_report";

export type Source = ReportPage["source"];

/** From the surest to none at all. */
export const SOURCES: readonly Source[] = ["text_layer", "form_fields", "ocr", "none"];

export const SOURCE_WORDS: Record<Source, string> = {
  text_layer: "Text of the file",
  form_fields: "Form fields",
  ocr: "Recognized text",
  none: "No text",
};

/** Also told apart by height, for who doesn't see the colors. In percent. */
export const HEIGHTS: Record<Source, number> = { text_layer: 100, form_fields: 85, ocr: 65, none: 30 };

/** A page as the API has it: its number, and its printed name where that differs. */
export function nameOf({ number, label }: ReportPage): string {
  return label ? `Page ${label} (number ${number})` : `Page ${number}`;
}
