"""A conversation as Markdown. What users, models and documents wrote stays inside quote blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from app.chat.events import Citation
from app.chat.messages import MessageView
from app.models.conversations import Conversation, MessageRole

_LINE_END = re.compile(r"\r\n|[\r\n]")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#!|~&])")
# At the start of a line: lists, rulings, headings by underline.
_OPENING = re.compile(r"^(?=[-+=])|^(\d{1,9})(?=[.)])")
_UNTITLED = "Conversation"


@dataclass(slots=True)
class MarkdownWriter:
    """Writes messages one after the other, in the order of their creation."""

    _numbers: dict[UUID, int] = field(default_factory=dict)
    _last_id: UUID | None = None

    def begin(self, conversation: Conversation) -> str:
        title = _plain(" ".join((conversation.title or _UNTITLED).split()))
        return f"# {title}\n\nBegun {conversation.created_at:%Y-%m-%d %H:%M} UTC.\n"

    def write(self, view: MessageView) -> str:
        """Return a numbered message: a heading, the text, and for an answer what it cites."""
        return "\n" + "\n".join(self._lines(view))

    def _lines(self, view: MessageView) -> Iterator[str]:
        message = view.message
        number = self._numbers[message.id] = len(self._numbers) + 1
        is_question = message.role == MessageRole.USER
        yield f"## {number}. {'Question' if is_question else 'Answer'}{_branch(view)}\n"
        if message.parent_id != self._last_id:
            parent = message.parent_id and self._numbers.get(message.parent_id)
            yield f"Follows {parent or 'nothing'}.\n"
        self._last_id = message.id
        # What the caller brought along has no run: it did not go through SafeText.
        quote = quote_text if view.run is None else quote_markdown
        yield quote(message.content)
        yield ""
        if view.run is not None and view.run.error_message:
            yield f"Failed: {_plain(view.run.error_message)}\n"
        if view.citations:
            yield "Sources:\n"
            yield from _list_citations(view.citations)


def quote_text(text: str) -> str:
    """Return plain text as a quote block that shows it letter by letter."""
    return "\n".join("> " + _plain(line) if line else ">" for line in _LINE_END.split(text))


def quote_markdown(text: str) -> str:
    """Return an answer, which is Markdown that SafeText has made harmless, as a quote block."""
    lines = _LINE_END.split(text)
    return "\n".join(f"> {line}" if line else ">" for line in lines)


def _branch(view: MessageView) -> str:
    if len(view.siblings) < 2:
        return ""
    place = view.siblings.index(view.message.id) + 1
    return f" (version {place} of {len(view.siblings)})"


def _list_citations(citations: tuple[Citation, ...]) -> Iterator[str]:
    """Each quote once, though several sentences may rest on it."""
    once = {
        (each.n, each.document_id, each.page_start, each.quote_start): each for each in citations
    }
    for citation in sorted(once.values(), key=lambda each: each.n):
        page = f"page {citation.page_start}"
        if citation.page_label:
            page += f" (printed as {_plain(citation.page_label)})"
        if not citation.filename:
            yield f"- \\[{citation.n}\\] A document that was deleted, {page}\n"
            continue
        checked = "" if citation.verified else ", not verified"
        yield f"- \\[{citation.n}\\] {_plain(citation.filename)}, {page}{checked}\n"
        block = quote_text(citation.quote)
        yield "\n".join(f"  {line}" for line in block.split("\n")) + "\n"


def _plain(line: str) -> str:
    """Escape one line so that Markdown shows it as it is. Indentation would make it code."""
    escaped = _SPECIAL.sub(r"\\\1", line.strip())
    return _OPENING.sub(r"\1\\", escaped)
