const OFFICE = "application/vnd.openxmlformats-officedocument";
const NAMES: Record<string, string> = {
  "application/pdf": "PDF",
  [`${OFFICE}.wordprocessingml.document`]: "Word",
  [`${OFFICE}.presentationml.presentation`]: "PowerPoint",
  [`${OFFICE}.spreadsheetml.sheet`]: "Excel",
  "application/epub+zip": "EPUB",
  "message/rfc822": "E-mail",
  "text/html": "Web page",
  "text/markdown": "Markdown",
  "text/plain": "Text",
  "text/csv": "CSV",
  "text/tab-separated-values": "TSV",
  "application/json": "JSON",
  "application/x-ndjson": "JSON lines",
};

/** What people call a type of file. */
export function typeName(mediaType: string): string {
  if (mediaType.startsWith("image/")) return `Picture (${mediaType.slice(6).toUpperCase()})`;
  return NAMES[mediaType] ?? mediaType;
}
