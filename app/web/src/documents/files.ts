/** Files before they are uploaded: which of them the server can read, and those in what was dropped. */
/** By their names: the server looks at their content. */
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
  ...["c", "cpp", "cs", "css", "go", "h", "java", "js", "php", "py", "rb", "rs"],
  ...["sh", "sql", "tex", "toml", "ts", "tsx", "yaml", "yml"],
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
function isHidden(path: string): boolean {
  return path
    .split("/")
    .some((part) => part.startsWith(".") || part.startsWith("~$") || LEFT_BY_SYSTEMS.has(part.toLowerCase()));
}

function isReadable(file: File): boolean {
  const dot = file.name.lastIndexOf(".");
  // A name without a suffix says nothing: the server looks into the file.
  return dot < 0 || READABLE.has(file.name.slice(dot + 1).toLowerCase());
}

/** The files in what was dropped or pasted; folders are walked. Must be called while the event is handled: the browser forgets the items after it. */
export function filesOf(transfer: DataTransfer): Promise<File[]> {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const found = items.map((item) => {
    const entry = item.webkitGetAsEntry();
    if (entry?.isDirectory) return walk(entry);
    const file = item.getAsFile();
    return Promise.resolve(file ? [file] : []);
  });
  return Promise.all(found).then((each) => each.flat());
}

async function walk(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) return [await fileOf(entry as FileSystemFileEntry)];
  if (isHidden(entry.name)) return [];
  const files: File[] = [];
  for (const child of await childrenOf(entry as FileSystemDirectoryEntry)) files.push(...(await walk(child)));
  return files;
}

const fileOf = (entry: FileSystemFileEntry) => new Promise<File>((resolve, reject) => entry.file(resolve, reject));

/** A reader gives a part of them at a time, at last an empty one. */
async function childrenOf(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}
