import type { ComponentChildren } from "preact";
import { useLoaded } from "../api/use_loaded";
import { Link } from "../router";
import { formatAgo } from "../text/format";
import { ErrorState, Loading } from "../ui/states";
import { type FoundMessage, searchConversations } from "./store";

export function SearchResults({ words }: { words: string }) {
  const { data: found, error, reload } = useLoaded(() => searchConversations(words), [words]);
  if (error) return <ErrorState error={error} onRetry={reload} />;
  if (!found) return <Loading label="Searching" />;
  if (found.length === 0) return <p class="sidebar-empty">Nothing found. Try other words.</p>;
  return (
    <ul class="found">
      {found.map((each) => (
        <li key={each.message_id}>
          <Link href={`/chat/${each.conversation_id}`}>
            <span class="clip found-title" dir="auto">
              {each.title || "New chat"}
            </span>
            <span class="found-snippet" dir="auto">
              {marked(each)}
            </span>
            <span class="faint">{formatAgo(each.created_at)}</span>
          </Link>
        </li>
      ))}
    </ul>
  );
}

/** The snippet with the found words marked. The API counts in code points. */
function marked({ snippet, matches }: FoundMessage): ComponentChildren[] {
  const letters = [...snippet];
  const parts: ComponentChildren[] = [];
  let at = 0;
  for (const { start, end } of matches) {
    parts.push(letters.slice(at, start).join(""), <mark key={start}>{letters.slice(start, end).join("")}</mark>);
    at = end;
  }
  parts.push(letters.slice(at).join(""));
  return parts;
}
