"""Makes a streamed answer safe to show: no images, no raw HTML, no links to unknown hosts.

What a document says may reach the answer, and an answer is rendered as Markdown. So nothing that
loads or links leaves this filter unless it was recognized as a whole and found harmless: what is
not recognized loses the one character that would make it active (`](`, `]:`, `<a`, a stray
back-tick), by a space or a character entity. The same holds for what a removal puts side by side,
here or later in MarkerFilter, which may drop any marker.
"""

import html
import re
import string
import sys
import unicodedata
from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import Enum

from app.core.markers import MARKER

# The most characters that are ever held back. What is longer is no construct but text.
MAX_HELD = 2_000
MAX_CODE_SPAN = 1_000
MAX_LABEL = 300
_MAX_URL_SHOWN = 80
_MAX_HOST = 253
# A long delta is taken in slices, so that replacing a construct in the buffer costs a constant.
_SLICE = 4_096
# Longer than any marker that MarkerFilter knows.
_TAIL = 500

_CLOSERS = "]】］"
_OPENERS = "[【［"
_ASCII_PUNCTUATION = string.punctuation
_TAG_BEGINNINGS = string.ascii_letters + "/!?"

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# GFM makes links of these without any brackets.
_TRIGGER = re.compile(r"(?:https?|ftp)://|www\.|xmpp:", re.IGNORECASE)
_TRIGGER_LENGTH = 8
_SPECIAL = re.compile(
    rf"[`~\n<\[\]【】［］!\\&]|{_TRIGGER.pattern}",
    re.IGNORECASE,
)
_UNFINISHED_TRIGGER = re.compile(
    r"(?:h(?:t(?:t(?:ps?(?::/?)?)?)?)?|f(?:t(?:p(?::/?)?)?)?|w{1,3}|x(?:m(?:pp?)?)?)\Z",
    re.IGNORECASE,
)
_NOT_PLAIN = re.compile(
    rf"[\x00-\x08\x0b-\x1f\x7f]|{_SPECIAL.pattern}|{_UNFINISHED_TRIGGER.pattern}", re.IGNORECASE
)
# Most of what is plain, and no more: to know it takes a tenth of the time of _NOT_PLAIN.
_SURELY_PLAIN = re.compile(
    r"[^\x00-\x08\x0b-\x1f\x7f`~\n<\[\]【】［］!\\&.:/]*+"
    r"(?<![hfwx])(?<!ht)(?<!htt)(?<!http)(?<!https)(?<!ft)(?<!ftp)(?<!xm)(?<!xmp)(?<!xmpp)",
    re.IGNORECASE,
)
_URL = re.compile(r"[^\s<>`\"\\|^{}\[\]【】［］\x00-\x20]*+")
_URL_END = ".,;:!?'*_~)。，、；：！？）」』"
_NOT_SHOWN = re.compile(r"[^\w.~:/@%+=,;()&!$-]")
_HTTP = re.compile(r"(https?)://([^/?#]*+)([!#-;=?-Z_a-z~]*+)", re.IGNORECASE)
_SCHEME = re.compile(r"\w[\w+.-]*:|//", re.ASCII)
_PORT = re.compile(r":\d*\Z")
_HOST = re.compile(r"[^\W_](?:[\w.-]*[^\W_])?")
_AUTHORITY = re.compile(rf"{_HOST.pattern}(?::\d{{1,5}})?")
_SOURCE_URL = re.compile(
    r"(?:(?<!\w)https?://|(?<![\w./@-])(?=www\.))([^\s/?#<>\"'`\\()\[\]{}|^,;]{1,300}+)",
    re.IGNORECASE,
)

# With a pipe it could be the header of a table.
_FENCE_INFO = re.compile(r"[^`|]*+")
_TICKS = re.compile(r"`+")
_TILDES = re.compile(r"~+")
_CLOSING_TICKS = {n: re.compile(rf"(?<!`)`{{{n}}}(?!`)") for n in range(1, 9)}
_INDENT = re.compile(r"[ \t]*+")
_BLANK = re.compile(r"[^\S\n]*+")

_LABEL = re.compile(r"\[((?:[^\[\]`\n\\]|\\.|`[^`\n]*+`)*+)")
_TITLE = r"""(?:"[^"\n]*+"|'[^'\n]*+'|\([^()\n]*+\))"""
_NESTED = r"\((?:[^\s()\\]|\\.)*+"
_TARGET = rf"(?:<([^<>\n]*+)>|((?:[^\s()<\\]|\\.|{_NESTED}\))*+))"
_UNFINISHED_TITLE = r"""(?:"[^"\n]*+"?|'[^'\n]*+'?|\([^()\n]*+\)?)[ \t]*+"""
_DESTINATION = re.compile(rf"\([ \t]*+{_TARGET}(?:[ \t]++({_TITLE}))?+[ \t]*+\)")
_UNFINISHED_DESTINATION = re.compile(
    rf"\([ \t]*+(?:<[^<>\n]*+|{_TARGET}(?:\\|{_NESTED}\\?|[ \t]++(?:{_UNFINISHED_TITLE})?)?)"
)
_DEFINITION = re.compile(rf":[ \t]*+(?:<([^<>\n]*+)>|([^\s<]\S*+))(?:[ \t]++{_TITLE})?+[ \t]*+")
_UNFINISHED_DEFINITION = re.compile(
    rf":[ \t]*+(?:<[^<>\n]*+|(?:<[^<>\n]*+>|[^\s<]\S*+)(?:[ \t]++(?:{_UNFINISHED_TITLE})?)?)?"
)
_REFERENCE = re.compile(r"\[[^\[\]\n]*+\]")
_UNFINISHED_REFERENCE = re.compile(r"\[[^\[\]\n]*+")
_SIMPLE_LABEL = re.compile(r"(?:[^\[\]【】［］`<>\\\n|&!]|`[^`\n\[\]【】［］|]++`)++")
_SIMPLE_TITLE = re.compile(r'"[^"\\`<>\[\]【】［］&|:]*+"')

_ATTRIBUTE = r"""[A-Za-z_:][\w.:-]*+(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s"'<>`]++))?+"""
_TAG_BODY = rf"</?([A-Za-z][A-Za-z0-9-]*+)(?:\s++{_ATTRIBUTE})*+\s*+"
_TAG = re.compile(rf"{_TAG_BODY}/?>")
_UNFINISHED_TAG = re.compile(rf"{_TAG_BODY}(?:=\s*+(?:\"[^\"]*+|'[^']*+)?|/)?|</?")
_DECLARATIONS = {
    "<!--": re.compile(r"<!-->|<!--->|<!--.*?-->", re.DOTALL),
    "<![CDATA[": re.compile(r"<!\[CDATA\[.*?\]\]>", re.DOTALL),
    "<?": re.compile(r"<\?.*?\?>", re.DOTALL),
}
_DECLARATION = re.compile(r"<![A-Za-z][^>]*+>")
_UNFINISHED_DECLARATION = re.compile(r"<!(?:[A-Za-z][^>]*+)?")
_END_OF_CODE = re.compile(r".*?</(?:script|style)\s*+>", re.DOTALL | re.IGNORECASE)
_AUTOLINK = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*+)>")
_UNFINISHED_AUTOLINK = re.compile(r"<[A-Za-z][A-Za-z0-9+.-]{0,31}(?::[^\s<>]*+)?")
_EMAIL = re.compile(r"<([\w.!#$%&'*+/=?^{|}~-]++@[A-Za-z0-9.-]++)>", re.ASCII)
_UNFINISHED_EMAIL = re.compile(r"<[\w.!#$%&'*+/=?^{|}~-]++(?:@[A-Za-z0-9.-]*+)?", re.ASCII)
_ENTITY = re.compile(r"&(?:#[xX][0-9a-fA-F]{1,6}|#\d{1,7}|[A-Za-z][A-Za-z0-9]{1,31});")
_UNFINISHED_ENTITY = re.compile(r"&#?[A-Za-z0-9]{0,32}")
_OPEN_ENTITY = re.compile(r"&#?[A-Za-z0-9]{0,32}\Z")

_BEFORE_DEFINITION = re.compile(r"[\s>*+.)\d-]*+")
_DELIMITER_ROW = re.compile(r"[\s:|>\d,;，；、\[\]【】［］-]*+")
# What must not directly follow what: `](`, `<a`, a back-tick that lengthens another run ...
_PARTED = {
    **dict.fromkeys(_CLOSERS, "(:`"),
    "<": _TAG_BEGINNINGS,
    "\\": _ASCII_PUNCTUATION,
    "!": "[",
    "`": "`",
    "~": "~",
}
_MAY_END_HEADER = frozenset("|:->[【［\t")


@dataclass(slots=True)
class Removed:
    """How many constructs did not pass."""

    images: int = 0
    html: int = 0
    links: int = 0


class _Mode(Enum):
    TEXT = "text"
    FENCE = "fence"


class SafeText:
    """Filters the deltas of a Markdown answer. Run it before MarkerFilter.

    Concatenated, the output is the same however the stream is cut; at most MAX_HELD characters are
    held back. Rendered by CommonMark with GFM's tables and autolinks, it has no image, no raw HTML
    and no http link to a host outside `allowed_hosts`, which are as `hosts_in` returns them.

    Images become their alternative text, links to other hosts `text (host)`, all other links their
    text, bare URLs a code span of host and path. A link `[1](url)` that may not stay leaves the
    marker `[1]`. Code spans within a line and fences after nothing but spaces pass as they are;
    back-ticks that open neither become entities, and so does a fence in a quotation. Line breaks
    become `\\n`, other control characters go.
    """

    def __init__(self, allowed_hosts: Container[str]) -> None:
        self._allowed = allowed_hosts
        self.removed = Removed()
        self._buffer = ""
        self._position = 0
        self._is_last = False
        self._parts: list[str] = []
        self._after_carriage_return = False
        self._is_skipping_url = False  # in what is too long for a URL

        self._last = "\n"  # the last character written
        self._tail = ""  # what was written, if MarkerFilter drops every marker; the last characters
        self._joint = 0  # so many characters may still complete a URL with those before a removal
        self._is_seam = False  # right behind a removal

        self._indent: int | None = 0  # spaces at the beginning of the line; None behind other text
        self._follows_blank = True
        self._depth = 0  # of brackets
        self._may_define = True  # the brackets of this line may be a link reference definition
        self._may_be_row = True  # the line may delimit a table's header
        self._has_dash = False
        self._in_table = False  # may be
        self._has_code_pipe = False
        self._follows_code_pipe = False

        self._mode = _Mode.TEXT
        self._fence = "```"
        self._fence_indent = 0
        self._at_fence_line = False  # at the beginning of a line in a fence

        self._handlers = {
            "`": self._take_ticks,
            "~": self._take_tildes,
            "\n": self._take_newline,
            "<": self._take_less_than,
            "[": self._take_bracket,
            "【": self._take_wide_opener,
            "［": self._take_wide_opener,
            "]": self._take_closer,
            "】": self._take_closer,
            "］": self._take_closer,
            "!": self._take_bang,
            "\\": self._take_backslash,
            "&": self._take_ampersand,
        }

    def feed(self, delta: str) -> str:
        """Return what is certain by now."""
        if self._may_pass(delta):
            self._last, self._tail = delta[-1], (self._tail + delta)[-_TAIL:]
            if self._may_define or self._may_be_row:
                self._judge_line(delta)
            return delta
        text = self._normalize(delta)
        for start in range(0, len(text), _SLICE):
            self._scan(text[start : start + _SLICE])
        return self._take_output()

    def close(self) -> str:
        """Return the rest. Call it once, at the end of the answer."""
        self._is_last = True
        self._scan("")
        return self._take_output()

    def _may_pass(self, delta: str) -> bool:
        """Whether the delta is plain text in the middle of a line, as most of them are."""
        return (
            self._position == len(self._buffer)
            and self._indent is None
            and self._last not in _PARTED
            and not (self._joint or self._is_seam)
            and not (self._is_skipping_url or self._after_carriage_return)
            and self._mode is _Mode.TEXT
            and delta != ""
            and (_SURELY_PLAIN.fullmatch(delta) is not None or not _NOT_PLAIN.search(delta))
        )

    def _normalize(self, delta: str) -> str:
        if not delta:
            return delta
        if self._after_carriage_return and delta[0] == "\n":
            delta = delta[1:]
            self._after_carriage_return = False
        if "\r" in delta:
            self._after_carriage_return = delta[-1] == "\r"
            delta = delta.replace("\r\n", "\n").replace("\r", "\n")
        elif delta:
            self._after_carriage_return = False
        return _CONTROL.sub("", delta)

    def _take_output(self) -> str:
        output = "".join(self._parts)
        self._parts.clear()
        return output

    def _scan(self, text: str) -> None:
        self._buffer = self._buffer[self._position :] + text
        self._position = 0
        while self._position < len(self._buffer):
            step = self._step_text if self._mode is _Mode.TEXT else self._step_fence
            if not step():
                return

    def _look_ahead(self, size: int) -> tuple[int, bool]:
        """Return where to stop looking, and whether more input would change nothing."""
        limit = self._position + size
        return min(limit, len(self._buffer)), self._is_last or limit <= len(self._buffer)

    # The steps below handle the construct at the position and return True, or False to wait for
    # more input. What they decide with less input they also decide with more.

    def _step_text(self) -> bool:
        buffer, start = self._buffer, self._position
        if self._is_skipping_url:
            self._position = _end(_URL, buffer, start)
            self._is_skipping_url = self._position == len(buffer)
            return True
        special = _SPECIAL.search(buffer, start)
        if special is None:
            end = len(buffer)
            if not self._is_last and (
                held := _UNFINISHED_TRIGGER.search(buffer, max(start, end - _TRIGGER_LENGTH))
            ):
                end = held.start()
        else:
            end = special.start()
        if end > start:
            self._write_plain(buffer[start:end])
            self._position = end
        if special is None:
            return end == len(buffer)
        return self._handlers.get(special.group(), self._take_url)()

    def _take_newline(self) -> bool:
        self._write_newline()
        self._position += 1
        return True

    # --- code

    def _take_ticks(self) -> bool:
        buffer, start = self._buffer, self._position
        limit, is_complete = self._look_ahead(MAX_CODE_SPAN)
        end = _end(_TICKS, buffer, start, limit)
        if end == limit and not is_complete:
            return False
        length = end - start
        newline = buffer.find("\n", end, limit)
        line_end = limit if newline < 0 else newline
        if length >= 3 and self._indent is not None:
            info = _FENCE_INFO.match(buffer, end, line_end)
            if info is not None and info.end() == line_end:
                if newline >= 0 or (self._is_last and limit == len(buffer)):
                    self._open_fence(buffer[start:end], info.group())
                    return True
                if not is_complete:
                    return False
        closing = None
        if length in _CLOSING_TICKS:
            closing = _CLOSING_TICKS[length].search(buffer, end, line_end)
        if closing and closing.end() == limit and not (self._is_last and limit == len(buffer)):
            closing = None  # perhaps a part of a longer run
        if not (closing or newline >= 0 or is_complete):
            return False
        code = buffer[start : closing.end()] if closing else ""
        if closing and not self._breaks_code(code):
            self._write_code(code)
            self._position = closing.end()
        else:
            self._write("&#96;" * length, visible="")
            self._position = end
        return True

    def _breaks_code(self, code: str) -> bool:
        """Whether the block around it may end the code span: a table's cell, a definition."""
        return ("|" in code and self._in_table) or ("]" in code and self._depth > 0)

    def _take_tildes(self) -> bool:
        buffer, start = self._buffer, self._position
        limit, is_complete = self._look_ahead(MAX_CODE_SPAN)
        end = _end(_TILDES, buffer, start, limit)
        if end == limit and not is_complete:
            return False
        run = buffer[start:end]
        if len(run) >= 3 and self._indent is not None:
            newline = buffer.find("\n", end, limit)
            if newline < 0 and not is_complete:
                return False
            is_line = newline >= 0 or (self._is_last and limit == len(buffer))
            info = buffer[end : limit if newline < 0 else newline]
            if is_line and "|" not in info:
                self._open_fence(run, info)
                return True
        self._write(run if len(run) < 3 else "&#126;" * len(run))
        self._position = end
        return True

    def _open_fence(self, fence: str, info: str) -> None:
        indent = self._indent or 0
        if indent > 3 and not self._follows_blank:
            # Behind a paragraph it could be more of its text. Behind a blank line it is a fence in
            # a list or else indented code, and either holds as long as the lines are indented.
            self._parts.append("\n" + " " * indent)
        self._parts.append(fence + info)
        self._position += len(fence) + len(info)
        self._mode, self._fence, self._fence_indent = _Mode.FENCE, fence, indent
        self._at_fence_line = False

    def _step_fence(self) -> bool:
        buffer, start = self._buffer, self._position
        if self._at_fence_line:
            return self._begin_fence_line()
        newline = buffer.find("\n", start)
        self._at_fence_line = newline >= 0
        self._position = newline + 1 if newline >= 0 else len(buffer)
        self._parts.append(buffer[start : self._position])
        return True

    def _begin_fence_line(self) -> bool:
        """Handle the indent of a line in a fence, or the whole line that closes it.

        A line that is indented less would end a fence in a list but not one outside of it, so it
        is indented as far as the fence, which shows the same outside and keeps it in the list.
        """
        buffer, start = self._buffer, self._position
        limit, is_complete = self._look_ahead(MAX_HELD)
        indent_end = _end(_INDENT, buffer, start, limit)
        if indent_end == limit and not is_complete:
            return False
        indent = buffer[start:indent_end]
        columns = len(indent.expandtabs(4))
        following = buffer[indent_end : indent_end + 1]
        may_close = following == self._fence[0] and columns <= self._fence_indent + 3
        if may_close:
            run_end = _end(_TICKS if following == "`" else _TILDES, buffer, indent_end, limit)
            end = _end(_BLANK, buffer, run_end, limit)
            if end == limit and not is_complete:
                return False
            may_close = run_end - indent_end >= len(self._fence)
            if may_close and (end == limit or buffer[end] == "\n"):
                is_too_long = end - start == MAX_HELD
                blank = "" if is_too_long else buffer[run_end:end]
                self._close_fence(indent, buffer[indent_end:run_end], blank)
                self._position = end
                if is_too_long:
                    self._write_newline()
                return True
        if following != "\n" and columns < self._fence_indent:
            indent = " " * self._fence_indent
        self._parts.append(indent)
        self._position = indent_end
        self._at_fence_line = False
        return True

    def _close_fence(self, indent: str, run: str, blank: str) -> None:
        # Outside of lists it may be indented up to three spaces, in one as far as the fence.
        indent = " " * self._fence_indent if self._fence_indent else indent
        self._parts.append(indent + run + (blank if not blank.strip(" \t") else ""))
        self._mode = _Mode.TEXT
        self._last, self._tail = run[0], run[0]
        self._indent, self._follows_blank = None, False
        self._may_define = self._may_be_row = self._in_table = self._has_code_pipe = False
        self._depth = 0

    # --- brackets

    def _take_opener(self, *, is_marker: bool = False) -> bool:
        if not is_marker and "!" in (self._last, self._tail[-1:]):
            self._write(" ")  # in front of a reference it would be an image
        self._write(self._buffer[self._position])
        self._depth += 1
        self._position += 1
        return True

    def _take_wide_opener(self) -> bool:
        return self._take_opener(is_marker=True)

    def _take_closer(self) -> bool:
        was_marker = self._is_seam and self._last in _CLOSERS
        tail = self._tail
        self._write(self._buffer[self._position])
        self._depth = max(self._depth - 1, 0)
        self._position += 1
        if was_marker:  # the second bracket of [[1]]
            self._tail = tail
        else:
            start = max(map(self._tail.rfind, _OPENERS))
            was_marker = start >= 0 and MARKER.fullmatch(self._tail, start) is not None
            if was_marker:
                is_double = self._tail[start - 1 : start] in {*_OPENERS}
                self._tail = self._tail[: start - is_double].removesuffix(" ")
        if was_marker:
            self._mark_seam()
        return True

    def _take_bracket(self) -> bool:
        found = self._find_label(self._position)
        if found is None:
            return False
        label, end = found
        if label is None:
            return self._take_opener()
        following = self._buffer[end : end + 1]
        is_marker = _is_marker(label)
        if following == "(":
            return self._take_link(label, end)
        if following == ":" and self._may_define and not is_marker:
            return self._take_definition(label, end)
        return self._take_opener(is_marker=is_marker)

    def _find_label(self, start: int) -> tuple[str | None, int] | None:
        """Return the text in the brackets at `start` and where they end, (None, start) if there is
        none, or None to wait. Waits for the character behind the brackets, too."""
        buffer = self._buffer
        limit = min(start + MAX_LABEL, len(buffer))
        is_complete = self._is_last or start + MAX_LABEL <= len(buffer)
        label = _LABEL.match(buffer, start, limit)
        end = label.end() if label else start
        if label is not None and buffer[end : min(end + 1, limit)] == "]":
            is_certain = end + 1 < len(buffer) or self._is_last
            return (label.group(1), end + 1) if is_certain else None
        is_open = end == limit or (buffer[end] in "`\\" and buffer.find("\n", end, limit) < 0)
        return None if is_open and not is_complete else (None, start)

    def _find(
        self,
        pattern: re.Pattern[str],
        unfinished: re.Pattern[str],
        start: int,
        *,
        at_line_end: bool = False,
    ) -> re.Match[str] | bool:
        """Return the match at `start`; False if there is none and never will be; True to wait."""
        limit, is_complete = self._look_ahead(MAX_HELD)
        match = pattern.match(self._buffer, start, limit)
        if match:
            end = match.end()
            is_line_end = self._is_last if end == len(self._buffer) else self._buffer[end] == "\n"
            if is_line_end or not at_line_end:
                return match
        return not is_complete and unfinished.fullmatch(self._buffer, start, limit) is not None

    def _take_link(self, label: str, end: int) -> bool:
        found = self._find(_DESTINATION, _UNFINISHED_DESTINATION, end)
        if isinstance(found, bool):
            return not found and self._take_opener()
        target = found[1] if found[1] is not None else found[2]
        if self._may_link(target):
            self._keep_link(label, target, found[3] or "", end=found.end())
            return True
        self.removed.links += 1
        if _is_marker(label):
            self._position = found.end()
            self._write_marker(label)
            return True
        if target[:7].lower() == "mailto:":
            shown = _shown(target[7:].partition("?")[0])
        else:
            link = _HTTP.match(target)
            shown = (_normalize_host(link[2]) if link else None) or ""
        is_told = not shown or f"//{shown}" in label.lower()
        text = label if is_told else f"{label} ({shown})" if label else f"({shown})"
        self._replace(found.end(), text)
        return True

    def _keep_link(self, label: str, target: str, title: str, *, end: int) -> None:
        if _SIMPLE_LABEL.fullmatch(label) and not (_TRIGGER.search(label) or label.isspace()):
            title = f" {title}" if _SIMPLE_TITLE.fullmatch(title) else ""
            bracketed = f"<{target}>" if "(" in target or ")" in target else target
            self._write(f"[{label}]({bracketed}{title})", visible=")")
            self._position = end
        else:
            is_told = target in label
            self._replace(end, label if is_told else f"{label} <{target}>")

    def _take_definition(self, label: str, end: int) -> bool:
        found = self._find(_DEFINITION, _UNFINISHED_DEFINITION, end, at_line_end=True)
        if isinstance(found, bool):
            return not found and self._take_opener()
        target = found[1] if found[1] is not None else found[2]
        if not _SCHEME.match(target):
            return self._take_opener()
        if self._may_link(target) and _SIMPLE_LABEL.fullmatch(label) and "`" not in label:
            self._write(f"[{label}]: <{target}>", visible=">")
        else:
            self.removed.links += 1
            self._mark_seam()
        self._position = found.end()
        return True

    def _take_bang(self) -> bool:
        buffer, start = self._buffer, self._position
        if start + 1 == len(buffer) and not self._is_last:
            return False
        if buffer[start + 1 : start + 2] != "[":
            return self._pass_on(1)
        found = self._find_label(start + 1)
        if found is None:
            return False
        label, end = found
        following = buffer[end : end + 1] if label is not None else ""
        image: re.Match[str] | bool = False
        if following == "(":
            image = self._find(_DESTINATION, _UNFINISHED_DESTINATION, end)
        elif following == "[":
            image = self._find(_REFERENCE, _UNFINISHED_REFERENCE, end)
        if image is True:
            return False
        is_marker = following != "(" and _is_marker(label or "")
        if label is None or is_marker or (following == "(" and not image):
            return self._pass_on(1)
        self.removed.images += 1
        self._replace(image.end() if image else end, label)
        return True

    # --- HTML, URLs, escapes

    def _take_less_than(self) -> bool:
        buffer, start = self._buffer, self._position
        following = buffer[start + 1 : start + 2]
        if not following and not self._is_last:
            return False
        if not following or following not in _TAG_BEGINNINGS:
            return self._pass_on(1)
        if following in "!?":
            return self._take_declaration()
        must_wait = False
        for pattern, unfinished, take in (
            (_TAG, _UNFINISHED_TAG, self._take_tag),
            (_AUTOLINK, _UNFINISHED_AUTOLINK, self._take_autolink),
            (_EMAIL, _UNFINISHED_EMAIL, self._take_email),
        ):
            found = self._find(pattern, unfinished, start)
            if isinstance(found, re.Match):
                return take(found)
            must_wait = must_wait or found
        if must_wait:
            return False
        return self._pass_on(1, "&lt;")

    def _take_declaration(self) -> bool:
        buffer, start = self._buffer, self._position
        limit, is_complete = self._look_ahead(MAX_HELD)
        for opening, pattern in _DECLARATIONS.items():
            if opening.startswith(buffer[start : start + len(opening)]):
                found = pattern.match(buffer, start, limit)
                break
        else:
            found = _DECLARATION.match(buffer, start, limit)
            is_complete = is_complete or not _UNFINISHED_DECLARATION.fullmatch(buffer, start, limit)
        if found:
            self.removed.html += 1
            self._drop(found.end())
            return True
        return is_complete and self._pass_on(1, "&lt;")

    def _take_tag(self, tag: re.Match[str]) -> bool:
        name = tag[1].lower()
        end = tag.end()
        if name in ("script", "style") and not tag.group().startswith("</"):
            limit, is_complete = self._look_ahead(MAX_HELD)
            content = _END_OF_CODE.match(self._buffer, end, limit)
            if content is None and not is_complete:
                return False
            end = content.end() if content else end
        self.removed.html += 1
        if name == "br":
            self._replace(end, " ")
        else:
            self._drop(end)
        return True

    def _take_email(self, email: re.Match[str]) -> bool:
        self._replace(email.end(), _shown(email[1]))
        return True

    def _take_autolink(self, link: re.Match[str]) -> bool:
        target = link[1]
        if target[:7].lower() == "mailto:":
            self._replace(link.end(), _shown(target[7:].partition("?")[0]))
            return True
        self._position = link.end()
        self._write_url(target)
        return True

    def _take_url(self) -> bool:
        buffer, start = self._buffer, self._position
        limit, is_complete = self._look_ahead(MAX_HELD)
        end = _end(_URL, buffer, start, limit)
        if end == limit and not is_complete:
            return False
        is_too_long = end - start == MAX_HELD
        url = buffer[start:end]
        if not is_too_long:
            url = _without_end(url)
        self._position = end if is_too_long else start + len(url)
        self._is_skipping_url = is_too_long
        self._write_url(url, may_stay=not is_too_long)
        return True

    def _may_link(self, url: str) -> bool:
        link = _HTTP.fullmatch(url)
        # No user name: browsers and we may disagree on where it ends, and no honest link has one.
        if link is None or _AUTHORITY.fullmatch(link[2]) is None:
            return False
        host = _normalize_host(link[2])
        return host is not None and host in self._allowed

    def _write_url(self, url: str, *, may_stay: bool = True) -> None:
        is_www = url[:4].lower() == "www."
        if may_stay and self._may_link(f"http://{url}" if is_www else url):
            if not is_www:
                self._write(f"<{url}>", visible=">")
                return
            self._write(f"[{url}](<http://{url}>)", visible=")")
            return
        self.removed.links += 1
        self._write_code(f"`{_shown_url(url)}`")

    def _take_backslash(self) -> bool:
        following = self._buffer[self._position + 1 : self._position + 2]
        if not following and not self._is_last:
            return False
        if not following or following not in _ASCII_PUNCTUATION:
            return self._pass_on(1)
        if following == "`":
            return self._pass_on(2, "&#96;")
        if following == "<":
            return self._pass_on(2, "&lt;")
        escaped = f"\\{following}"
        self._joint = _TRIGGER_LENGTH
        self._write(escaped, visible=following if following in ":/." else escaped)
        self._position += 2
        return True

    def _take_ampersand(self) -> bool:
        entity = self._find(_ENTITY, _UNFINISHED_ENTITY, self._position)
        if entity is True:
            return False
        if entity is False:
            return self._pass_on(1)
        character = html.unescape(entity.group())
        is_part_of_url = character.isalnum() or character in ":/."
        self._joint = _TRIGGER_LENGTH
        self._write(entity.group(), visible=character if is_part_of_url else "")
        self._position = entity.end()
        return True

    # --- output

    def _pass_on(self, length: int, written: str | None = None) -> bool:
        self._write(written or self._buffer[self._position])
        self._position += length
        return True

    def _replace(self, end: int, text: str) -> None:
        """Put `text` in the place of the input up to `end`, to be looked at again."""
        self._buffer = text + self._buffer[end:]
        self._position = 0
        self._mark_seam()

    def _drop(self, end: int) -> None:
        self._position = end
        self._mark_seam()

    def _mark_seam(self) -> None:
        self._is_seam, self._joint = True, _TRIGGER_LENGTH

    def _write_marker(self, label: str) -> None:
        rest = self._buffer[self._position :]
        self._buffer, self._position = f"[{label}]{rest}", 0
        self._take_opener(is_marker=True)
        self._write_plain(label)
        self._position += len(label)
        self._take_closer()

    def _write_plain(self, text: str) -> None:
        """Write text without any special character or whole trigger."""
        if self._joint:
            if self._must_part(text):
                self._write(" ")
            tail = self._tail[-_TRIGGER_LENGTH:]
            trigger = _TRIGGER.search(tail + text[:_TRIGGER_LENGTH])
            if trigger and trigger.end() > len(tail):
                # With what stood before a removal it would be a URL.
                cut = trigger.end() - 1 - len(tail)
                if cut:
                    self._write(text[:cut])
                self._write(" ")
                text = text[cut:]
            self._joint = max(self._joint - len(text), 0)
        self._write(text)

    def _write_code(self, code: str) -> None:
        self._has_code_pipe = self._has_code_pipe or "|" in code
        self._write(code, visible="`")

    def _write(self, text: str, *, visible: str | None = None) -> None:
        """Write text of one line, kept apart from what it must not touch.

        `visible` is what goes to the tail: the text as it is shown, or its last character.
        """
        if self._indent is not None:
            text = self._begin_line(text)
        if not text:
            return
        if self._must_part(text) or (visible and self._joint and self._completes_trigger(visible)):
            self._parts.append(" ")
            self._tail += " "
        self._is_seam = False
        self._parts.append(text)
        self._last = text[-1]
        self._tail = (self._tail + (text if visible is None else visible))[-_TAIL:]
        self._judge_line(text)

    def _judge_line(self, text: str) -> None:
        if self._may_be_row:
            self._may_be_row = _DELIMITER_ROW.fullmatch(text) is not None
            self._has_dash = self._has_dash or "-" in text
        if self._may_define and self._depth == 0 and text not in _OPENERS + _CLOSERS:
            self._may_define = _BEFORE_DEFINITION.fullmatch(text) is not None

    def _completes_trigger(self, visible: str) -> bool:
        tail = self._tail[-_TRIGGER_LENGTH:]
        trigger = _TRIGGER.search(tail + visible)
        return trigger is not None and trigger.end() > len(tail)

    def _must_part(self, text: str) -> bool:
        """Whether what comes next would make something active of what was written."""
        following = text[0]
        if self._is_seam and (following.isalnum() or following in "#;"):
            # Two halves of an entity.
            if _OPEN_ENTITY.search(self._tail):
                return True
        elif following == ":" and not self._may_define:
            return False
        elif following == "[" and len(text) == 1:
            return "\\" in (self._last, self._tail[-1:])
        return any(following in _PARTED.get(before, "") for before in {self._last, self._tail[-1:]})

    def _begin_line(self, text: str) -> str:
        """Count and write the spaces at the beginning of a line. Returns the rest."""
        rest = text.lstrip(" ")
        spaces = len(text) - len(rest)
        if spaces:
            self._indent = (self._indent or 0) + spaces
            self._parts.append(" " * spaces)
            self._tail = (self._tail + " ")[-_TAIL:]
            self._last = " "
        if rest:
            if self._follows_code_pipe and rest[0] in _MAY_END_HEADER:
                # As a table's header the line before would be cut at the pipe in its code.
                self._parts.append("\n" + " " * (self._indent or 0))
            self._indent = None
        return rest

    def _write_newline(self) -> None:
        is_blank = self._indent is not None
        self._parts.append("\n")
        self._last, self._tail = "\n", "\n"
        self._is_seam, self._joint = False, 0
        if is_blank:
            self._in_table, self._depth = False, 0
        elif self._may_be_row and self._has_dash:
            self._in_table = True
        self._indent, self._follows_blank = 0, is_blank
        self._follows_code_pipe, self._has_code_pipe = self._has_code_pipe, False
        self._may_define = self._may_be_row = True
        self._has_dash = False


def hosts_in(texts: Iterable[str]) -> frozenset[str]:
    """Return the hosts of the http URLs in the texts, in lower case, without port and user name."""
    found = (_normalize_host(url[1]) for text in texts for url in _SOURCE_URL.finditer(text))
    return frozenset(host for host in found if host)


def _normalize_host(authority: str) -> str | None:
    """Return the host as it can be compared, or None if it is not a name or an IPv4 address.

    Names in other scripts are compared as they are written, never mapped: the mappings of browsers
    differ.
    """
    host = _PORT.sub("", authority.rpartition("@")[2].rstrip(".:!?*_~'"))
    host = unicodedata.normalize("NFC", host.lower())
    if len(host) > _MAX_HOST or ".." in host or not _HOST.fullmatch(host):
        return None
    return host


def _is_marker(label: str) -> bool:
    return MARKER.fullmatch(f"[{label}]") is not None


def _shown(text: str) -> str:
    return _NOT_SHOWN.sub("", text[:_MAX_URL_SHOWN])


def _shown_url(url: str) -> str:
    """Return host and path of a URL that is no link, never empty. Its query may carry secrets."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    host = authority.rpartition("@")[2]
    shown = _NOT_SHOWN.sub("", f"{host}{slash}{path}" if separator else url.partition("?")[0])
    if len(shown) > _MAX_URL_SHOWN:
        shown = shown[:_MAX_URL_SHOWN] + "…"
    return shown or f"{_NOT_SHOWN.sub('', scheme)}{separator}"


def _without_end(url: str) -> str:
    """Return the URL without the punctuation of the sentence behind it, as GFM does."""
    stripped = url.rstrip(_URL_END)
    missing = stripped.count("(") - stripped.count(")")
    closing = len(url) - len(url[len(stripped) :].lstrip(")")) - len(stripped)
    return stripped + ")" * max(min(missing, closing), 0)


def _end(pattern: re.Pattern[str], text: str, start: int, limit: int = sys.maxsize) -> int:
    match = pattern.match(text, start, limit)
    return match.end() if match else start
