/** The address bar as a signal. The paths are those that the server answers with this page. */
import { computed, signal } from "@preact/signals";
import type { AnchorHTMLAttributes, ComponentChildren, TargetedMouseEvent } from "preact";
import { useEffect } from "preact/hooks";

export type Route =
  | { name: "sign-in" }
  | { name: "join" }
  | { name: "chat"; conversationId: string | null }
  | { name: "documents" }
  | { name: "document"; documentId: string }
  | { name: "settings"; section: string }
  | { name: "nowhere" };

const address = signal(window.location.pathname);
window.addEventListener("popstate", () => (address.value = window.location.pathname));

export const route = computed(() => parse(address.value));

function parse(path: string): Route {
  const [first, second, ...rest] = path.split("/").slice(1);
  if (rest.length > 0) return { name: "nowhere" };
  if (first === "") return { name: "chat", conversationId: null };
  if (first === "sign-in") return { name: "sign-in" };
  if (first === "join" && second === undefined) return { name: "join" };
  if (first === "chat" && second) return { name: "chat", conversationId: second };
  if (first === "documents") return second ? { name: "document", documentId: second } : { name: "documents" };
  if (first === "settings") return { name: "settings", section: second ?? "profile" };
  return { name: "nowhere" };
}

/** Goes to a path of this app; `replace` leaves no way back to the present one. */
export function navigate(path: string, options: { replace?: boolean } = {}): void {
  if (path === window.location.pathname) return;
  if (options.replace) window.history.replaceState(null, "", path);
  else window.history.pushState(null, "", path);
  address.value = path;
}

/** What the tab of the browser is called while a view is shown. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · Footnote`;
  }, [title]);
}

type LinkProps = AnchorHTMLAttributes<HTMLAnchorElement> & { href: string; children: ComponentChildren };

/** A link within the app. Opens a new tab when asked to, as any link does. */
export function Link({ href, children, onClick, ...others }: LinkProps) {
  function follow(event: TargetedMouseEvent<HTMLAnchorElement>) {
    onClick?.(event);
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    navigate(href);
  }
  return (
    <a href={href} onClick={follow} {...others}>
      {children}
    </a>
  );
}
