/** The frame of the app: who is not signed in signs in; else sidebar, view, and a document beside it. */
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { JoinView } from "./account/join_view";
import { SignInView } from "./account/sign_in_view";
import { loadModels } from "./api/models";
import { isKnown, principalId, refresh } from "./api/session";
import { ChatView } from "./chat/chat_view";
import { Sidebar } from "./conversations/sidebar";
import { DocumentView } from "./documents/document_view";
import { DocumentsView } from "./documents/documents_view";
import { DropZone } from "./documents/drop_zone";
import { watchDocuments } from "./documents/feed";
import { BudgetAlert } from "./organization/budget_alert";
import { OrganizationReceipt } from "./organization/delete_organization";
import { Link, navigate, type Route, route, useTitle } from "./router";
import { SettingsView } from "./settings/settings_view";
import { IconButton } from "./ui/button";
import { EmptyState, ErrorState, Loading } from "./ui/states";
import { Toasts } from "./ui/toast";
import { followHistory, viewing } from "./viewer/state";
import { ViewerPane } from "./viewer/viewer_pane";
import "./theme";
import "./app.css";

/** On a narrow screen the sidebar lies over the view, when it is asked for. */
const isSidebarOpen = signal(false);

export function App() {
  return (
    <>
      <Content />
      <Toasts />
    </>
  );
}

function Content() {
  const [error, setError] = useState<unknown>(null);
  const find = () => {
    setError(null);
    refresh().catch(setError);
  };
  useEffect(find, []);
  if (error) return <ErrorState error={error} onRetry={find} />;
  if (!isKnown.value) return <Loading />;
  if (route.value.name === "join") return <JoinView />;
  if (!principalId.value) return <SignInView />;
  // A key: the state of another person, or of another organization, must not be shown here.
  return <Workspace key={principalId.value} />;
}

function Workspace() {
  const here = route.value;
  useEffect(() => {
    void loadModels();
    return watchDocuments();
  }, []);
  useEffect(followHistory, []);
  useEffect(() => {
    if (here.name === "sign-in") navigate("/", { replace: true });
    isSidebarOpen.value = false;
    if (here.name !== "chat" && here.name !== "document") viewing.value = null;
  }, [here]);
  return (
    <DropZone>
      <div
        class="workspace"
        data-sidebar={isSidebarOpen.value ? "open" : undefined}
        data-viewer={viewing.value ? "open" : undefined}
      >
        <a class="skip-link" href="#main">
          Skip to the content
        </a>
        <Sidebar />
        <button
          type="button"
          class="sidebar-scrim"
          tabIndex={-1}
          aria-hidden="true"
          onClick={() => (isSidebarOpen.value = false)}
        />
        <main id="main" tabIndex={-1}>
          <div class="top-bar">
            <IconButton
              icon="menu"
              label="Menu"
              aria-expanded={isSidebarOpen.value}
              onClick={() => (isSidebarOpen.value = !isSidebarOpen.value)}
            />
            <Link href="/" class="brand">
              Footnote
            </Link>
          </div>
          <BudgetAlert />
          <View route={here} />
        </main>
        {viewing.value && <ViewerPane />}
        <OrganizationReceipt />
      </div>
    </DropZone>
  );
}

function View({ route: here }: { route: Route }) {
  switch (here.name) {
    case "chat":
      return <ChatView conversationId={here.conversationId} />;
    case "documents":
      return <DocumentsView />;
    case "document":
      return <DocumentView key={here.documentId} documentId={here.documentId} />;
    case "settings":
      return <SettingsView section={here.section} />;
    case "sign-in":
    case "join":
      return null;
    case "nowhere":
      return <Nowhere />;
  }
}

function Nowhere() {
  useTitle("No such page");
  return (
    <EmptyState icon="search" title="There is no such page" isPage>
      <Link href="/">Go to your chats</Link>
    </EmptyState>
  );
}
