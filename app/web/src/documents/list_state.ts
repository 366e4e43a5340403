/** The list of documents as it is looked at: filter, order, selection, and what is loaded of it. */
import { batch, computed, effect, signal, untracked } from "@preact/signals";
import { api, read, type Schemas } from "../api/client";
import type { operations } from "../api/schema";
import { perUser } from "../api/session";
import type { DocumentOut } from "./actions";
import { changes, deleted, learnKnown, withProgress } from "./feed";

type ListQuery = NonNullable<operations["list_documents_api_v1_documents_get"]["parameters"]["query"]>;

type Visibility = DocumentOut["visibility"];

export type SortColumn = "name" | "status" | "pages" | "size" | "created";
export type StatusFilter = "all" | "ready" | "active" | "failed";

interface Filter {
  name: string;
  status: StatusFilter;
  /** Empty: any. */
  tag: string;
  visibility: Visibility | "all";
}

interface Loaded {
  items: readonly DocumentOut[];
  nextCursor: string | null;
  total: number;
}

const NO_FILTER: Filter = { name: "", status: "all", tag: "", visibility: "all" };
const PAGE = 50;
const MAX_PAGE = 200;
const STATUSES = { all: [], ready: ["ready"], active: ["queued", "processing"], failed: ["failed"] } as const;
/** What comes first when a column is chosen. */
const USUAL = { name: "asc", status: "asc", pages: "desc", size: "desc", created: "desc" } as const;

export const filter = perUser<Filter>(NO_FILTER);
export const sorting = perUser<{ by: SortColumn; order: "asc" | "desc" }>({ by: "created", order: "desc" });
export const selected = perUser<ReadonlySet<string>>(new Set());
export const error = perUser<unknown>(null);
/** Whether the first part of the present list, or the next part, is on its way. */
export const isLoading = signal(false);
export const tags = perUser<readonly Schemas["DocumentTag"][]>([]);

const loaded = perUser<Loaded | null>(null);
/** null: not loaded yet. */
export const documents = computed(
  () => loaded.value?.items.filter(({ id }) => !deleted.value.has(id)).map(withProgress) ?? null,
);
export const total = computed(() => loaded.value?.total ?? 0);
export const hasMore = computed(() => loaded.value?.nextCursor != null);
export const isFiltered = computed(
  () =>
    filter.value.name.trim() !== "" ||
    filter.value.status !== "all" ||
    filter.value.tag !== "" ||
    filter.value.visibility !== "all",
);
export const chosen = computed(() => documents.value?.filter(({ id }) => selected.value.has(id)) ?? []);

let generation = 0;
/** Something has changed while the list was being loaded. */
let isOutdated = false;

/** Keeps the list fresh as long as somebody looks at it. */
export function watchList(): () => void {
  const stopFirst = effect(() => {
    void [filter.value, sorting.value];
    untracked(() => void loadFirst());
  });
  const stopChanges = effect(() => {
    const isChange = changes.value > 0;
    untracked(() => {
      if (isChange) void reload();
      void loadTags();
    });
  });
  return () => {
    stopFirst();
    stopChanges();
    generation += 1;
  };
}

export function setFilter(changed: Partial<Filter>): void {
  filter.value = { ...filter.value, ...changed };
}

export function clearFilter(): void {
  filter.value = NO_FILTER;
}

/** By another column, or by the same one the other way round. */
export function sortBy(column: SortColumn): void {
  const { by, order } = sorting.value;
  const turned = order === "asc" ? "desc" : "asc";
  sorting.value = { by: column, order: by === column ? turned : USUAL[column] };
}

export function select(ids: readonly string[], isSelected: boolean): void {
  const next = new Set(selected.value);
  for (const id of ids) isSelected ? next.add(id) : next.delete(id);
  selected.value = next;
}

/** Takes over a document that the API has just answered with. */
export function replaceInList(document: DocumentOut): void {
  const present = loaded.value;
  if (present)
    loaded.value = { ...present, items: present.items.map((each) => (each.id === document.id ? document : each)) };
}

export async function loadFirst(): Promise<void> {
  isLoading.value = true;
  error.value = null;
  await load(() => fetchPart(PAGE, null));
}

export async function loadMore(): Promise<void> {
  const present = loaded.value;
  if (!present?.nextCursor || isLoading.value) return;
  isLoading.value = true;
  await load(async () => {
    const more = await fetchPart(PAGE, present.nextCursor);
    const known = new Set(present.items.map(({ id }) => id));
    return { ...more, items: [...present.items, ...more.items.filter(({ id }) => !known.has(id))] };
  });
}

/** As much of the list as is there, once more. What fails is left as it is. */
async function reload(): Promise<void> {
  const present = loaded.value;
  isOutdated = isLoading.value;
  if (!present || isOutdated) return;
  // Who saw the end of the list sees it with what has come since.
  const wanted = present.items.length + (present.nextCursor ? 0 : PAGE);
  await load(
    async () => {
      let part = await fetchPart(Math.min(Math.max(wanted, PAGE), MAX_PAGE), null);
      while (part.items.length < wanted && part.nextCursor) {
        const more = await fetchPart(MAX_PAGE, part.nextCursor);
        part = { ...more, items: [...part.items, ...more.items] };
      }
      return part;
    },
    { isQuiet: true },
  );
}

/** Only the newest loading counts: an older one that comes later is of another filter. */
async function load(get: () => Promise<Loaded>, options: { isQuiet?: boolean } = {}): Promise<void> {
  const mine = ++generation;
  try {
    const part = await get();
    if (mine === generation) show(part);
  } catch (reason) {
    if (mine === generation && !options.isQuiet) error.value = reason;
  } finally {
    if (mine === generation) {
      isLoading.value = false;
      if (isOutdated) void reload();
    }
  }
}

function show(part: Loaded): void {
  batch(() => {
    loaded.value = part;
    error.value = null;
  });
}

async function fetchPart(limit: number, cursor: string | null): Promise<Loaded> {
  const { name, status, tag, visibility } = filter.value;
  const { by, order } = sorting.value;
  const query: ListQuery = { sort: by, order, limit, status: [...STATUSES[status]] };
  if (name.trim()) query.name = name.trim();
  if (tag) query.tag = [tag];
  if (visibility !== "all") query.visibility = visibility;
  if (cursor) query.cursor = cursor;
  const answer = read(api.GET("/api/v1/documents", { params: { query } }));
  const page = await learnKnown(answer, ({ items }) => items);
  return { items: page.items, nextCursor: page.next_cursor, total: page.total };
}

export async function loadTags(): Promise<void> {
  const page = await read(api.GET("/api/v1/documents/tags")).catch(() => null);
  if (page) tags.value = page.items;
}
