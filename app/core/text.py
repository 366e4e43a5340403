"""Text that can be stored: Postgres refuses NUL, and UTF-8 has no lone surrogates."""

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Replace each NUL and lone surrogate by U+FFFD, so that offsets stay what they were."""
    return _UNSTORABLE.sub("\ufffd", text)


def _storable_if_text(value: object) -> object:
    return storable(value) if isinstance(value, str) else value


# Pydantic refuses lone surrogates, which a client sends that cuts a text inside an emoji.
AnyText = Annotated[str, BeforeValidator(_storable_if_text)]
