import { useState } from "preact/hooks";
import { Link, navigate, route } from "../router";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Menu, type MenuItem } from "../ui/menu";
import { ErrorState, Loading } from "../ui/states";
import { tell, tellError } from "../ui/toast";
import {
  type Conversation,
  conversations,
  deleteConversation,
  exportConversation,
  hasMore,
  loadConversations,
  loadError,
  loadMore,
  renameConversation,
} from "./store";

const DAY_MS = 86_400_000;

export function ConversationList() {
  const [deleting, setDeleting] = useState<Conversation | null>(null);
  if (conversations.value === null)
    return loadError.value ? (
      <ErrorState error={loadError.value} onRetry={() => void loadConversations()} />
    ) : (
      <Loading />
    );
  if (conversations.value.length === 0) return <p class="sidebar-empty">Your chats will be listed here.</p>;
  return (
    <>
      {groups(conversations.value).map(([label, items]) => (
        <section key={label} aria-label={label}>
          <h2>{label}</h2>
          <ul class="conversations">
            {items.map((each) => (
              <Row key={each.id} conversation={each} onDelete={() => setDeleting(each)} />
            ))}
          </ul>
        </section>
      ))}
      {hasMore.value && (
        <Button kind="quiet" onClick={() => void loadMore().catch(tellError)}>
          Show older chats
        </Button>
      )}
      {deleting && <DeleteDialog conversation={deleting} onClose={() => setDeleting(null)} />}
    </>
  );
}

/** By day of the last question, in the person's time zone. */
function groups(items: Conversation[]): [string, Conversation[]][] {
  const today = new Date().setHours(0, 0, 0, 0);
  const starts: [string, number][] = [
    ["Today", today],
    ["Yesterday", today - DAY_MS],
    ["Last 7 days", today - 7 * DAY_MS],
    ["Last 30 days", today - 30 * DAY_MS],
    ["Older", -Infinity],
  ];
  const byLabel = new Map<string, Conversation[]>(starts.map(([label]) => [label, []]));
  for (const item of items) {
    const label = starts.find(([, start]) => Date.parse(item.updated_at) >= start)?.[0] ?? "Older";
    byLabel.get(label)?.push(item);
  }
  return [...byLabel].filter(([, group]) => group.length > 0);
}

function Row({ conversation, onDelete }: { conversation: Conversation; onDelete: () => void }) {
  const [isRenaming, setRenaming] = useState(false);
  const title = conversation.title || "New chat";
  const here = route.value.name === "chat" && route.value.conversationId === conversation.id;
  const items: MenuItem[] = [
    { label: "Rename", icon: "edit", onSelect: () => setRenaming(true) },
    {
      label: "Export as Markdown",
      icon: "download",
      onSelect: () => void exportConversation(conversation, "markdown").catch(tellError),
    },
    {
      label: "Export as JSON",
      icon: "download",
      onSelect: () => void exportConversation(conversation, "json").catch(tellError),
    },
    { label: "Delete", icon: "trash", isDanger: true, onSelect: onDelete },
  ];
  return (
    <li class="conversation" data-here={here ? "" : undefined}>
      {isRenaming ? (
        <RenameField conversation={conversation} onDone={() => setRenaming(false)} />
      ) : (
        <>
          <Link
            href={`/chat/${conversation.id}`}
            class="clip"
            dir="auto"
            title={title}
            aria-current={here ? "page" : undefined}
          >
            {title}
          </Link>
          <Menu label={`More about “${title}”`} items={items} />
        </>
      )}
    </li>
  );
}

function RenameField({ conversation, onDone }: { conversation: Conversation; onDone: () => void }) {
  const [title, setTitle] = useState(conversation.title);
  function save() {
    onDone();
    const wanted = title.trim();
    if (wanted && wanted !== conversation.title) renameConversation(conversation.id, wanted).catch(tellError);
  }
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <input
        ref={(input) => input?.focus()}
        aria-label="Title of the chat"
        dir="auto"
        maxLength={200}
        value={title}
        onInput={(event) => setTitle(event.currentTarget.value)}
        onBlur={save}
        onKeyDown={(event) => event.key === "Escape" && onDone()}
      />
    </form>
  );
}

function DeleteDialog({ conversation, onClose }: { conversation: Conversation; onClose: () => void }) {
  const [isBusy, setBusy] = useState(false);
  async function remove() {
    setBusy(true);
    try {
      await deleteConversation(conversation.id);
      if (route.value.name === "chat" && route.value.conversationId === conversation.id)
        navigate("/", { replace: true });
      tell("The chat is deleted.");
    } catch (error) {
      tellError(error);
    }
    onClose();
  }
  const actions = (
    <>
      <Button onClick={onClose}>Keep it</Button>
      <Button kind="danger" icon="trash" isBusy={isBusy} onClick={() => void remove()}>
        Delete
      </Button>
    </>
  );
  return (
    <Dialog title="Delete this chat?" onClose={onClose} actions={actions}>
      <p dir="auto">“{conversation.title || "New chat"}” and all of its answers will be gone. Your documents stay.</p>
    </Dialog>
  );
}
