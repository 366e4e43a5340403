"""The title of a conversation, made from its first question."""

from app.core.sentences import split_sentences

MAX_TITLE_CHARS = 80
# What is longer is cut anyway.
_LOOKED_AT_CHARS = 1_000


def make_title(question: str) -> str:
    """Return the first sentence or line on one line, at most 80 characters, cut at a word."""
    opening = question.strip()[:_LOOKED_AT_CHARS]
    sentences = split_sentences(opening)
    first = opening[sentences[0].start : sentences[0].end] if sentences else opening
    folded = " ".join(first.split())
    if len(folded) <= MAX_TITLE_CHARS:
        return folded
    cut = folded[: MAX_TITLE_CHARS - 1]
    if folded[len(cut)] != " " and " " in cut:
        cut = cut.rpartition(" ")[0]
    return cut.rstrip(" ,;:–—-") + "…"
