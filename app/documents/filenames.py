"""File names are untrusted data: made safe to store and show, never used as a path."""

import re
import unicodedata

MAX_FILENAME_CHARS = 255
# C0 and C1 controls, and the characters that reorder text or take no space.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def clean_filename(name: str) -> str:
    """Return the last path component in NFC without invisible characters, or "document"."""
    last = _INVISIBLE.sub("", re.split(r"[/\\]", name)[-1])
    visible = " ".join(unicodedata.normalize("NFC", last).split()).strip(". ")
    if len(visible) > MAX_FILENAME_CHARS:
        stem, dot, suffix = visible.rpartition(".")
        keeps_suffix = dot and len(suffix) <= 16
        visible = (
            f"{stem[: MAX_FILENAME_CHARS - len(suffix) - 1]}.{suffix}"
            if keeps_suffix
            else visible[:MAX_FILENAME_CHARS].rstrip(". ")
        )
    return visible or "document"
