"""The streaming filter of an answer's markers: rewritten to `[n]`, or gone where no source is."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from app.core.markers import MARKER, UNFINISHED_MARKER, marker_numbers

_PIECE = re.compile(r"`+|~+|\n|[\[【［]|[^`~\n\[【［]+")
_SPECIAL = re.compile(r"[`~\n\[【［]")
_OPENERS = frozenset("[【［")
_CLOSING_PUNCTUATION = frozenset(".,;:!?)]}»”’%…。，、！？；：）」』】")


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Text of the answer, markers in their canonical form `[n]`."""

    text: str


@dataclass(frozen=True, slots=True)
class Marker:
    """The next text begins with the marker `[n]`."""

    n: int


# In one answer. For each a quote is looked for, and each is a frame: a model that repeats itself
# must not hold up everybody.
MAX_MARKERS = 300


class _Mode(Enum):
    TEXT = "text"
    CODE_SPAN = "code_span"  # until as many back-ticks again, or the end of the line
    FENCE = "fence"  # until a line of at least as many


class MarkerFilter:
    """Rewrites the markers of a streamed answer to `[n]` and removes those that are no source.

    Concatenated, the output is the same however the stream is cut. Only the beginning of a possible
    marker and one space are held back; code and Markdown links are left alone.
    """

    def __init__(self, known: Collection[int]) -> None:
        self._known = frozenset(known)
        self.dropped_markers = 0
        self._passed_markers = 0
        self._held = ""  # the beginning of a possible marker, or a marker without its look-ahead
        self._space = ""  # a space that goes if a removed marker follows
        self._after_drop = False
        self._indent: int | None = 0  # spaces at the beginning of the line; None behind other text
        self._mode = _Mode.TEXT
        self._code_char = "`"
        self._code_length = 0
        self._in_info = False  # in the first line of a fence
        self._is_closing = False  # behind the back-ticks that close a fence, if nothing follows
        self._run_char = ""  # a run of back-ticks that may go on
        self._run_length = 0
        self._run_indent: int | None = None  # of a run at the beginning of a line
        self._fence_indent = 0
        self._parts: list[str] = []
        self._events: list[TextPiece | Marker] = []

    def feed(self, delta: str) -> list[TextPiece | Marker]:
        """Return what is certain by now, in order."""
        if not (self._held or self._run_char or _SPECIAL.search(delta)):
            if delta:
                self._take_text(delta)
        else:
            buffer, self._held = self._held + delta, ""
            self._scan(buffer, is_last=False)
        return self._take_events()

    def close(self) -> list[TextPiece | Marker]:
        """Return the rest. Call it once, at the end of the answer."""
        buffer, self._held = self._held, ""
        self._scan(buffer, is_last=True)
        if not self._after_drop:
            self._write(self._space)
        self._space = ""
        return self._take_events()

    def _scan(self, buffer: str, *, is_last: bool) -> None:
        position = 0
        while piece := _PIECE.match(buffer, position):
            text = piece.group()
            if text[0] in "`~":
                self._take_run(text)
                position = piece.end()
                continue
            self._end_run()
            if text[0] not in _OPENERS or self._mode is not _Mode.TEXT:
                self._take_newline() if text == "\n" else self._take_text(text)
                position = piece.end()
                continue
            end = self._take_opener(buffer, position, is_last=is_last)
            if end is None:
                self._held = buffer[position:]
                return
            position = end

    def _take_opener(self, buffer: str, position: int, *, is_last: bool) -> int | None:
        """Handle a bracket. Returns where to go on, or None to wait for more of the answer."""
        marker = MARKER.match(buffer, position)
        if marker is None:
            if not is_last and UNFINISHED_MARKER.fullmatch(buffer, position):
                return None
            self._take_text(buffer[position])
            return position + 1
        end = marker.end()
        # A link: [1](, or with the marker at the end of its text, [see [1]](.
        rest = buffer[end : end + 2]
        if not is_last and rest in ("", "]"):
            return None
        numbers = marker_numbers(marker.group())
        if numbers is None or rest == "](" or buffer.startswith("](", end - 1):
            self._take_text(marker.group())
        else:
            self._take_marker(numbers)
        return end

    def _take_marker(self, numbers: Sequence[int]) -> None:
        room = MAX_MARKERS - self._passed_markers
        known = [n for n in dict.fromkeys(numbers) if n in self._known][:room]
        self._passed_markers += len(known)
        self.dropped_markers += sum(n not in known for n in numbers)
        if not known:
            self._after_drop = True
            return
        self._write(self._space)
        self._space, self._after_drop, self._indent = "", False, None
        for n in known:
            self._flush()
            self._events.append(Marker(n))
            self._parts.append(f"[{n}]")

    def _take_text(self, text: str) -> None:
        """Write text other than markers, line breaks and back-ticks, in any mode."""
        if text.strip():
            self._is_closing = False
        text = self._join(text)
        if not text:
            return
        if self._indent is not None:
            spaces = len(text) - len(text.lstrip(" "))
            self._indent = self._indent + spaces if spaces == len(text) else None
        if text[-1] == " ":
            text, self._space = text[:-1], " "
        self._write(text)

    def _take_newline(self) -> None:
        self._write(self._join("\n"))
        self._indent = 0
        if self._mode is _Mode.CODE_SPAN or self._is_closing:
            self._mode = _Mode.TEXT
        self._in_info = self._is_closing = False

    def _take_run(self, run: str) -> None:
        if run[0] != self._run_char:
            self._end_run()
            self._run_char = run[0]
            self._run_indent = self._indent
        self._run_length += len(run)
        self._write(self._join(run))
        self._indent = None

    def _end_run(self) -> None:
        """Open or close code, now that the length of a run of back-ticks or tildes is known."""
        char, length = self._run_char, self._run_length
        if not char:
            return
        self._run_char, self._run_length = "", 0
        indent = self._run_indent
        is_fence = length >= 3 and indent is not None
        if self._mode is _Mode.TEXT:
            if char == "`" or is_fence:
                self._fence_indent = indent or 0  # in a list it may be any
                self._mode = _Mode.FENCE if is_fence else _Mode.CODE_SPAN
                self._code_char, self._code_length, self._in_info = char, length, is_fence
            return
        if char != self._code_char:
            self._is_closing = False
        elif self._mode is _Mode.CODE_SPAN or (self._in_info and char == "`"):
            # Back-ticks in the first line of a "fence" mean that it is a code span.
            self._mode = _Mode.TEXT if length == self._code_length else _Mode.CODE_SPAN
            self._in_info = False
        else:
            is_near = indent is not None and indent <= self._fence_indent + 3
            self._is_closing = is_near and length >= max(self._code_length, 3)

    def _join(self, text: str) -> str:
        """Settle the held space before `text`. Returns the text, less a space after a removal."""
        space, self._space = self._space, ""
        if self._after_drop:
            self._after_drop = False
            if text[0].isspace() or text[0] in _CLOSING_PUNCTUATION:
                # At the beginning of a line there is no space before the marker, but one behind it.
                if not space and text[0] == " " and self._indent == 0:
                    text = text[1:]
                space = ""
        self._write(space)
        return text

    def _write(self, text: str) -> None:
        if text:
            self._parts.append(text)

    def _flush(self) -> None:
        if self._parts:
            self._events.append(TextPiece("".join(self._parts)))
            self._parts = []

    def _take_events(self) -> list[TextPiece | Marker]:
        self._flush()
        events, self._events = self._events, []
        return events
