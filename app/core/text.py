"""Text that can be stored: Postgres refuses NUL, and UTF-8 has no lone surrogates.

And names, which must not show anything but what they are.
"""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from app.core.logging import redact_text

_MAX_SHOWN = 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Controls, what reorders text, what takes no space. The two joiners stay: Persian and Indic names
# are spelled with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def storable(text: str) -> str:
    """Replace each NUL and lone surrogate by U+FFFD, so that offsets stay what they were."""
    return _UNSTORABLE.sub("\ufffd", text)


def clean_line(text: str) -> str:
    """Return the text on one line, in NFC, without invisible characters; perhaps empty."""
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())


def show_name(name: str) -> str:
    """Return how a message repeats a name that a client made up: on one line, as it can be read.

    Empty for a long one, which may be a secret that has slipped.
    """
    cleaned = redact_text(clean_line(name))
    return cleaned if len(cleaned) <= _MAX_SHOWN else ""


def _storable_if_text(value: object) -> object:
    return storable(value) if isinstance(value, str) else value


# Pydantic refuses lone surrogates, which a client sends that cuts a text inside an emoji.
AnyText = Annotated[str, BeforeValidator(_storable_if_text)]
# What others read beside their own words, such as a description.
CleanLine = Annotated[AnyText, AfterValidator(clean_line)]
