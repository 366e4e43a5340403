/** Which files the server can read. It looks at their content; here names have to do. */
export interface Sorted {
  accepted: File[];
  /** Of another type. */
  unreadable: number;
  /** Those that begin with a dot, and what systems leave in folders. */
  hidden: number;
}

const SUFFIXES = [
  ...["pdf", "docx", "docm", "pptx", "pptm", "ppsx", "xlsx", "xlsm", "epub", "html", "htm", "xhtml"],
  ...["md", "markdown", "mdown", "mkd", "txt", "text", "log", "rst", "csv", "tsv", "json", "jsonl", "ndjson", "eml"],
  ...["png", "jpg", "jpeg", "tif", "tiff", "webp", "bmp", "gif"],
];
const READABLE = new Set(SUFFIXES);
const LEFT_BY_SYSTEMS = new Set(["thumbs.db", "desktop.ini", "__macosx"]);

/** For a file input. */
export const ACCEPT = SUFFIXES.map((suffix) => `.${suffix}`).join(",");

export function sortFiles(files: readonly File[]): Sorted {
  const sorted: Sorted = { accepted: [], unreadable: 0, hidden: 0 };
  for (const file of files) {
    if (isHidden(file.webkitRelativePath || file.name)) sorted.hidden += 1;
    else if (isReadable(file)) sorted.accepted.push(file);
    else sorted.unreadable += 1;
  }
  return sorted;
}

/** Any part of a path, such as `.git/config`, may hide it. */
export function isHidden(path: string): boolean {
  return path
    .split("/")
    .some((part) => part.startsWith(".") || part.startsWith("~$") || LEFT_BY_SYSTEMS.has(part.toLowerCase()));
}

function isReadable(file: File): boolean {
  const dot = file.name.lastIndexOf(".");
  // A name without a suffix says nothing: the server looks into the file.
  return dot < 0 || READABLE.has(file.name.slice(dot + 1).toLowerCase());
}
