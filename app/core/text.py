"""Text that can be stored: Postgres refuses NUL, and UTF-8 has no lone surrogates."""

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Replace each NUL and lone surrogate by U+FFFD, so that offsets stay what they were."""
    return _UNSTORABLE.sub("\ufffd", text)
