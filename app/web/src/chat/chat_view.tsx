/** A conversation: its messages, and where the next question is typed. */
import { useEffect, useRef } from "preact/hooks";
import { isGone } from "../api/errors";
import { conversations, loadConversations } from "../conversations/store";
import { askedAbout } from "../documents/actions";
import { Link, useTitle } from "../router";
import { Button } from "../ui/button";
import { EmptyState, ErrorState, Loading } from "../ui/states";
import { Answer, Waiting } from "./answer";
import { CitationPopover } from "./citation_popover";
import { Composer } from "./composer";
import { FirstMinute } from "./first_minute";
import { useFollowEnd } from "./follow_end";
import { Question } from "./question";
import { loadThread } from "./reading";
import { openThread, type Thread } from "./thread";
import "./chat.css";

// Focus and visibility come together.
const LOOK_AT_MOST_EVERY_MS = 1000;

export function ChatView({ conversationId }: { conversationId: string | null }) {
  const thread = useThread(conversationId);
  return <Chat key={keyOf(thread)} thread={thread} />;
}

const keys = new WeakMap<Thread, number>();
let lastKey = 0;

function keyOf(thread: Thread): number {
  const key = keys.get(thread) ?? ++lastKey;
  keys.set(thread, key);
  return key;
}

/** A new chat stays the same thread when its first question gives it an id. */
function useThread(conversationId: string | null): Thread {
  const held = useRef<Thread | null>(null);
  if (held.current?.conversationId.peek() !== conversationId || held.current === null) {
    held.current?.close();
    held.current = openThread(conversationId);
  }
  useEffect(() => () => held.current?.close(), []);
  return held.current;
}

function Chat({ thread }: { thread: Thread }) {
  const isGrowing = thread.loading.value !== "ready" || thread.isBusy.value;
  const { scroller, content, isAway, toEnd } = useFollowEnd(isGrowing);
  useEffect(() => void loadThread(thread), []);
  useFresh(thread);
  useAskAbout(thread);
  return (
    <>
      <div class="chat">
        <Title thread={thread} />
        <div class="chat-scroll" ref={scroller} tabIndex={-1}>
          <div class="chat-column" ref={content}>
            <Messages thread={thread} onAsk={toEnd} />
          </div>
        </div>
        <Foot thread={thread} isAway={isAway} toEnd={toEnd} />
        <Announcer thread={thread} />
      </div>
      {/* Beside it: the chat is a container, and so the frame of what is placed by the window. */}
      <CitationPopover />
    </>
  );
}

function Foot({ thread, isAway, toEnd }: { thread: Thread; isAway: boolean; toEnd: () => void }) {
  return (
    <div class="chat-foot">
      <div class="to-end">
        {isAway && (
          <Button icon="chevron-down" onClick={toEnd}>
            Jump to the end
          </Button>
        )}
      </div>
      <Connection thread={thread} />
      <Composer thread={thread} onAsk={toEnd} />
    </div>
  );
}

function Title({ thread }: { thread: Thread }) {
  const known = conversations.value?.find((each) => each.id === thread.conversationId.value);
  const title = known?.title || "New chat";
  useTitle(title);
  return <h1 class="visually-hidden">{title}</h1>;
}

function Messages({ thread, onAsk }: { thread: Thread; onAsk: () => void }) {
  const loading = thread.loading.value;
  const path = thread.path.value;
  const asking = thread.asking.value;
  if (loading === "loading") return <Loading label="Loading the chat" />;
  if (loading !== "ready") return <NotLoaded error={loading.error} onRetry={() => void reload(thread)} />;
  const isNext = asking !== null && asking.replaces === null;
  if (path.length === 0 && !isNext) return <FirstMinute thread={thread} onAsk={onAsk} />;
  return (
    // Not live: it would read every word as it comes.
    <div class="messages" role="log" aria-live="off" aria-label="Messages">
      {path.map((step) =>
        step.node.role === "user" ? (
          <Question key={step.node.id} thread={thread} node={step.node} step={step} />
        ) : (
          <Answer key={step.node.id} thread={thread} node={step.node} step={step} />
        ),
      )}
      {isNext && <NextQuestion content={asking.content ?? ""} />}
    </div>
  );
}

function NotLoaded({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  if (!isGone(error)) return <ErrorState error={error} onRetry={onRetry} />;
  return (
    <EmptyState icon="chat" title="This chat is not here">
      <p>It was deleted, or the address is wrong.</p>
      <Link href="/">Begin a new chat</Link>
    </EmptyState>
  );
}

function reload(thread: Thread): Promise<void> {
  thread.loading.value = "loading";
  return loadThread(thread);
}

/** What is on its way to the server. */
function NextQuestion({ content }: { content: string }) {
  return (
    <>
      <div class="question">
        <div class="bubble" dir="auto">
          {content}
        </div>
        <div class="actions" />
      </div>
      <Waiting note="Searching your documents" />
    </>
  );
}

function Connection({ thread }: { thread: Thread }) {
  return (
    <p class="connection" role="status">
      {thread.isCut.value && "Connection lost, trying again"}
    </p>
  );
}

function Announcer({ thread }: { thread: Thread }) {
  const wasWriting = useRef(false);
  const isWriting = thread.writing.value !== null;
  if (isWriting) wasWriting.current = true;
  return (
    <p class="visually-hidden" role="status">
      {isWriting ? "Answer is being written" : wasWriting.current && "Answer complete"}
    </p>
  );
}

/** A new chat that was opened from a document asks about that one. */
function useAskAbout(thread: Thread): void {
  const document = askedAbout.value;
  useEffect(() => {
    if (document === null || thread.conversationId.peek() !== null) return;
    thread.choice.value = { ...thread.choice.peek(), scope: { kind: "documents", documents: [document] } };
    askedAbout.value = null;
  }, [document]);
}

/** Loads what another tab has asked when this one is looked at again. */
function useFresh(thread: Thread): void {
  useEffect(() => {
    let last = Date.now();
    function look() {
      const isIdle = !thread.isBusy.peek() && thread.loading.peek() === "ready";
      if (document.visibilityState !== "visible" || !isIdle || Date.now() - last < LOOK_AT_MOST_EVERY_MS) return;
      last = Date.now();
      void loadThread(thread);
      void loadConversations();
    }
    window.addEventListener("focus", look);
    window.addEventListener("online", look);
    document.addEventListener("visibilitychange", look);
    return () => {
      window.removeEventListener("focus", look);
      window.removeEventListener("online", look);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
}
