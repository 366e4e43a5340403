import { useEffect, useState } from "preact/hooks";
import { signOut, user } from "../api/session";
import { active } from "../documents/feed";
import { OrganizationSwitch } from "../organization/organization_switch";
import { Link, navigate, route } from "../router";
import { count } from "../text/format";
import { useDebounced } from "../text/use_debounced";
import { SearchField } from "../ui/field";
import { Icon, type IconName } from "../ui/icon";
import { Menu, type MenuItem } from "../ui/menu";
import { tellError } from "../ui/toast";
import { ConversationList } from "./conversation_list";
import { SearchResults } from "./search_results";
import { loadConversations } from "./store";
import "./sidebar.css";

/** Where one goes: conversations with search, documents, settings, and who one is. */
export function Sidebar() {
  const [words, setWords] = useState("");
  const searched = useDebounced(words.trim());
  useEffect(() => void loadConversations(), []);
  return (
    <aside class="sidebar" aria-label="Chats and navigation">
      <div class="sidebar-head">
        <Link href="/" class="brand">
          Footnote<sup aria-hidden="true">1</sup>
        </Link>
        <Link href="/" class="button" aria-label="New chat">
          <Icon name="plus" />
          <span>New chat</span>
        </Link>
      </div>
      <nav aria-label="Main" class="sidebar-nav">
        <Entry
          href="/documents"
          icon="document"
          label="Documents"
          note={activity()}
          isHere={["documents", "document"].includes(route.value.name)}
        />
        <Entry href="/settings" icon="settings" label="Settings" isHere={route.value.name === "settings"} />
      </nav>
      <search class="sidebar-search">
        <SearchField
          label="Search your chats"
          maxLength={200}
          value={words}
          onInput={(event) => setWords(event.currentTarget.value)}
        />
      </search>
      <nav class="sidebar-list" aria-label={searched ? "Search results" : "Your chats"}>
        {searched ? <SearchResults words={searched} /> : <ConversationList />}
      </nav>
      <Account />
    </aside>
  );
}

function activity(): string {
  const { queued, processing } = active.value;
  return queued + processing > 0 ? `${count(queued + processing, "document is", "documents are")} being processed` : "";
}

function Entry({
  href,
  icon,
  label,
  note,
  isHere,
}: {
  href: string;
  icon: IconName;
  label: string;
  note?: string;
  isHere: boolean;
}) {
  return (
    <Link href={href} class="entry" aria-current={isHere ? "page" : undefined}>
      <Icon name={icon} />
      <span>{label}</span>
      {note && (
        <span class="pulse" title={note}>
          <span class="visually-hidden">, {note}</span>
        </span>
      )}
    </Link>
  );
}

function Account() {
  const { email, name } = user.value ?? { email: "", name: "" };
  const items = [
    { label: "Settings", icon: "settings", onSelect: () => navigate("/settings") },
    { label: "Sign out", icon: "sign-out", onSelect: () => void signOut().catch(tellError) },
  ] satisfies MenuItem[];
  const opener = (
    <span class="account">
      <span class="visually-hidden">Account of </span>
      <span class="avatar" aria-hidden="true">
        {[...(name || email)][0]?.toUpperCase()}
      </span>
      <span class="account-names">
        <span class="clip" dir="auto" title={name || email}>
          {name || email}
        </span>
        {name && (
          <span class="clip faint" dir="auto">
            {email}
          </span>
        )}
      </span>
      <Icon name="chevron-down" size={16} />
    </span>
  );
  return (
    <div class="sidebar-foot">
      <OrganizationSwitch />
      <Menu label="Account" items={items} opener={opener} opensUp />
    </div>
  );
}
