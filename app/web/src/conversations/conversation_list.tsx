import { useRef, useState } from "preact/hooks";
import { Link, navigate, route } from "../router";
import { daysAgo } from "../text/format";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { Menu, type MenuItem } from "../ui/menu";
import { ErrorState, Loading } from "../ui/states";
import { tell, tellError } from "../ui/toast";
import { useAction } from "../ui/use_action";
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

/** By days since the last question. */
const GROUPS: readonly [label: string, days: number][] = [
  ["Today", 0],
  ["Yesterday", 1],
  ["Last 7 days", 7],
  ["Last 30 days", 30],
  ["Older", Infinity],
];

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

function groups(items: Conversation[]): [string, Conversation[]][] {
  const labelOf = ({ updated_at }: Conversation) => GROUPS.find(([, days]) => daysAgo(updated_at) <= days)?.[0];
  return GROUPS.map(([label]): [string, Conversation[]] => [
    label,
    items.filter((each) => labelOf(each) === label),
  ]).filter(([, group]) => group.length > 0);
}

const isShown = ({ id }: Conversation): boolean => route.value.name === "chat" && route.value.conversationId === id;

function Row({ conversation, onDelete }: { conversation: Conversation; onDelete: () => void }) {
  const [isRenaming, setRenaming] = useState(false);
  const title = conversation.title || "New chat";
  const here = isShown(conversation);
  const save = (format: "markdown" | "json") => void exportConversation(conversation, format).catch(tellError);
  const items: MenuItem[] = [
    { label: "Rename", icon: "edit", onSelect: () => setRenaming(true) },
    { label: "Export as Markdown", icon: "download", onSelect: () => save("markdown") },
    { label: "Export as JSON", icon: "download", onSelect: () => save("json") },
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
  const isOver = useRef(false);
  function close() {
    isOver.current = true;
    onDone();
  }
  function save() {
    // The field also loses the focus because it goes away.
    if (isOver.current) return;
    close();
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
        onKeyDown={(event) => event.key === "Escape" && close()}
      />
    </form>
  );
}

function DeleteDialog({ conversation, onClose }: { conversation: Conversation; onClose: () => void }) {
  const { isBusy, error, run } = useAction(async () => {
    await deleteConversation(conversation.id);
    if (isShown(conversation)) navigate("/", { replace: true });
    tell("The chat is deleted.");
    onClose();
  });
  const actions = (
    <>
      <Button onClick={onClose}>Keep it</Button>
      <Button kind="danger" icon="trash" isBusy={isBusy} onClick={run}>
        Delete
      </Button>
    </>
  );
  return (
    <Dialog title="Delete this chat?" onClose={onClose} actions={actions} error={error}>
      <p dir="auto">“{conversation.title || "New chat"}” and all of its answers will be gone. Your documents stay.</p>
    </Dialog>
  );
}
