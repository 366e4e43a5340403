"""What is active in a Markdown text, as a real renderer and GFM's autolinks see it."""

import re
from collections.abc import Collection, Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

_RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# By itself it refuses javascript: links; other renderers do not.
_RENDERER.validateLink = lambda url: True  # type: ignore[method-assign]
_HOST = re.compile(r"https?://([^/?#:]*)(?::\d+)?(?=[/?#]|\Z)")
# Wider than GFM, which asks for a boundary before and a domain behind.
_AUTOLINK = re.compile(r"(?:https?|ftp)://\S|www\.\S|xmpp:\S", re.IGNORECASE)


def find_active(markdown: str, allowed_hosts: Collection[str]) -> list[str]:
    """Return the images, the raw HTML and the links to other hosts that a text is rendered to."""
    return list(_walk(_RENDERER.parse(markdown), allowed_hosts))


def _walk(tokens: Sequence[Token], allowed_hosts: Collection[str]) -> Iterator[str]:
    depth = 0
    text = ""
    for token in tokens:
        if token.type in ("image", "html_inline", "html_block"):
            yield f"{token.type} {token.content} {token.attrs}"
        elif token.type == "link_open":
            depth += 1
            url = str(token.attrs["href"])
            host = _HOST.match(url)
            if host is None or host[1].lower() not in allowed_hosts:
                yield f"link {url}"
        elif token.type == "link_close":
            depth -= 1
        # Some renderers look for autolinks after entities and escapes are gone.
        is_text = token.type in ("text", "text_special") and depth == 0
        text = text + token.content if is_text else text
        if not is_text:
            yield from _find_autolinks(text)
            text = ""
        if token.children:
            yield from _walk(token.children, allowed_hosts)
    yield from _find_autolinks(text)


def _find_autolinks(text: str) -> Iterator[str]:
    if _AUTOLINK.search(text):
        yield f"autolink in {text}"
