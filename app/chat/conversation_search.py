"""Find messages of one's own conversations by their words, and show where these stand."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.core.analysis import detect_language, terms_of, tokenize
from app.models.conversations import MessageRole
from app.retrieval.query_terms import AnalyzedQuery

# Around the first word that was found.
_SNIPPET_CHARS = 240
_CHARS_BEFORE = 80
# As far as a message is indexed.
_READ_CHARS = 50_000
# Numbers, and what stands between white space and punctuation, with the marks that `\w` leaves out.
_WORD = re.compile(
    r"\d+(?:[.,'’٫٬]\d+)+"
    r"|[^\s!\"#$%()*+,\-./:;<=>?@\[\\\]^_`{|}~«»“”„‹›…–—•·¡¿。、，．！？：；（）「」『』《》]+"
)

# `@@` is not leakproof: under row-level security it would use no index. So one's own first.
_SEARCH = text("""
    WITH own AS MATERIALIZED (
        SELECT m.id, m.conversation_id, c.title, m.role, m.created_at, m.terms
        FROM conversations c
        JOIN messages m ON m.org_id = c.org_id AND m.conversation_id = c.id
        WHERE c.org_id = :org_id AND c.user_id = :user_id),
    best AS (
        SELECT *, ts_rank(terms, CAST(CAST(:query AS text) AS tsquery), 1) AS rank
        FROM own WHERE terms @@ CAST(CAST(:query AS text) AS tsquery)
        ORDER BY rank DESC, id DESC LIMIT :limit)
    SELECT best.id, best.conversation_id, best.title, best.role, best.created_at,
        left(m.content, :read_chars) AS content
    FROM best JOIN messages m ON m.org_id = :org_id AND m.id = best.id
    ORDER BY best.rank DESC, best.id DESC
""")


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """`content` is as much of the message as is searched."""

    message_id: UUID
    conversation_id: UUID
    title: str
    role: MessageRole
    created_at: datetime
    content: str


@dataclass(frozen=True, slots=True)
class Snippet:
    """A stretch of a message that begins at `start`; `matches` count in `text`, ends exclusive."""

    text: str
    start: int
    matches: tuple[tuple[int, int], ...]


async def search_messages(
    session: AsyncSession, principal: Principal, query: AnalyzedQuery, *, limit: int
) -> list[FoundMessage]:
    """Return messages that hold every word, the best first and of equals the newest."""
    if not query.terms:
        return []
    rows = await session.execute(
        _SEARCH,
        {
            "org_id": principal.org_id,
            "user_id": principal.user_id,
            "query": _to_tsquery(query),
            "limit": limit,
            "read_chars": _READ_CHARS,
        },
    )
    return [
        FoundMessage(
            row.id,
            row.conversation_id,
            row.title,
            MessageRole(row.role),
            row.created_at,
            row.content,
        )
        for row in rows
    ]


def make_snippet(content: str, query: AnalyzedQuery) -> Snippet:
    """Cut a message around the first word that was searched for, and mark all such words in it."""
    places = list(_find_words(content, frozenset(query.terms)))
    start = max(0, (places[0][0] if places else 0) - _CHARS_BEFORE)
    # Not in the middle of a word.
    if start and (space := content.find(" ", start, places[0][0])) >= 0:
        start = space + 1
    stop = start + _SNIPPET_CHARS
    matches = tuple((a - start, b - start) for a, b in places if a >= start and b <= stop)
    return Snippet(content[start:stop], start, matches)


def _to_tsquery(query: AnalyzedQuery) -> str:
    """Every word must be there, in one of its forms."""
    by_group = sorted(zip(query.groups, query.terms, strict=True))
    words = (
        " | ".join(_quote(term) for _, term in group)
        for _, group in groupby(by_group, key=lambda each: each[0])
    )
    return " & ".join(f"({word})" for word in words)


def _quote(term: str) -> str:
    escaped = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _find_words(content: str, wanted: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield where words stand that have one of the terms, in order."""
    language = detect_language(tokenize(content)).name
    for match in _WORD.finditer(content):
        tokens = tokenize(match.group())
        if all(kind not in {"pairs", "threes"} for kind, _ in tokens):
            if any(term in wanted for token in tokens for term in terms_of(token, language)):
                yield match.span()
        else:
            folded = match.group().casefold()
            run = folded if len(folded) == len(match.group()) else match.group()
            yield from _find_in_run(run, match.start(), wanted)


def _find_in_run(run: str, offset: int, wanted: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield where terms stand in a run of letters that has no spaces, joined where they overlap."""
    # `wanted` has 160 terms at most.
    spans = sorted((place, place + len(term)) for term in wanted for place in _find_all(run, term))
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    yield from ((offset + start, offset + end) for start, end in joined)


def _find_all(run: str, term: str) -> Iterator[int]:
    place = run.find(term)
    while place >= 0:
        yield place
        place = run.find(term, place + 1)


def make_snippets(found: Sequence[FoundMessage], query: AnalyzedQuery) -> list[Snippet]:
    """Return the snippet of each message: some CPU time, so not on the event loop."""
    return [make_snippet(message.content, query) for message in found]
