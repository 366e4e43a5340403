/** "page 57", "pages 57–58"; the printed name of the page where it has one. */
export function pagesOf({
  page_start,
  page_end,
  page_label,
}: {
  page_start: number;
  page_end: number;
  page_label?: string | null;
}): string {
  if (page_end > page_start) return `pages ${page_start}–${page_end}`;
  if (page_label && page_label !== String(page_start)) return `page ${page_label} (${page_start} in the file)`;
  return `page ${page_start}`;
}
