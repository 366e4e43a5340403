import type { ComponentChildren } from "preact";
import type { Pages } from "../api/use_pages";
import { Button } from "./button";
import { EmptyState, ErrorState, Loading } from "./states";

interface PagedProps<T> {
  pages: Pages<T>;
  /** What is said where there is nothing. */
  empty: string;
  children: (items: T[]) => ComponentChildren;
}

/** A list that comes page by page, or what stands in its place. */
export function Paged<T>({
  pages: { items, error, hasMore, isBusy, loadMore, reload },
  empty,
  children,
}: PagedProps<T>) {
  if (!items) return error ? <ErrorState error={error} onRetry={reload} /> : <Loading />;
  return (
    <>
      {error !== null && <ErrorState error={error} onRetry={reload} />}
      {items.length > 0 ? children(items) : <EmptyState icon="search" title={empty} />}
      {hasMore && (
        <div class="show-more">
          <Button isBusy={isBusy} onClick={loadMore}>
            Show more
          </Button>
        </div>
      )}
    </>
  );
}
