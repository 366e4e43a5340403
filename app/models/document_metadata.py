"""What tags and metadata of a document may be, wherever they come from. Nothing here knows HTTP."""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

MAX_TAGS = 32
MAX_TAG_CHARS = 64
MAX_KEYS = 32
MAX_VALUE_CHARS = 512
MAX_LIST_ITEMS = 32
# Of the whole object, as compact JSON in UTF-8.
MAX_METADATA_BYTES = 8 * 1024
# The largest whole number that every JSON parser keeps as it is.
MAX_NUMBER = 2**53 - 1

KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY_RULE = "1 to 64 of the characters A-Z a-z 0-9 _ . -"
# What Postgres or UTF-8 can't hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = Scalar | list[str]


def check_tags(tags: object) -> list[str]:
    """Return the tags trimmed, in Unicode's composed form, each once, in their order.

    Raises ValueError, whose message is for the caller and repeats nothing of what came.
    """
    if not isinstance(tags, Sequence) or isinstance(tags, str):
        raise ValueError("tags must be a list of strings")
    distinct = list(dict.fromkeys(check_tag(tag) for tag in tags))
    if len(distinct) > MAX_TAGS:
        raise ValueError(f"there are more than {MAX_TAGS} tags")
    return distinct


def check_tag(tag: object) -> str:
    """Return one tag as it is stored. Raises ValueError."""
    if not isinstance(tag, str):
        raise ValueError("a tag must be a string")
    stored = unicodedata.normalize("NFC", tag.strip())
    if not 1 <= len(stored) <= MAX_TAG_CHARS:
        raise ValueError(f"a tag has 1 to {MAX_TAG_CHARS} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in stored):
        raise ValueError("a tag has no control characters")
    return stored


def check_metadata(metadata: object) -> dict[str, Value]:
    """Return a flat object of keys and values. Raises ValueError, like `check_tags`."""
    if not isinstance(metadata, dict):
        raise ValueError("metadata must be an object")
    if len(metadata) > MAX_KEYS:
        raise ValueError(f"metadata has at most {MAX_KEYS} keys")
    checked = {check_key(key): _check_value(value) for key, value in metadata.items()}
    compact = json.dumps(checked, ensure_ascii=False, separators=(",", ":"))
    if len(compact.encode()) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata has more than {MAX_METADATA_BYTES:,} bytes")
    return checked


def check_key(key: object) -> str:
    """Raises ValueError for what is no key of metadata."""
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise ValueError(f"a key of metadata has {_KEY_RULE}")
    return key


def check_name(name: str) -> str:
    """Return a file name or media type to compare with stored ones. Raises ValueError."""
    if len(name) > MAX_VALUE_CHARS:
        raise ValueError(f"a name has at most {MAX_VALUE_CHARS} characters")
    if _UNSTORABLE.search(name):
        raise ValueError("a name has a character that can't be stored")
    return unicodedata.normalize("NFC", name)


def check_scalar(value: object) -> Scalar:
    """Return a value of metadata that is no list. Raises ValueError."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > MAX_VALUE_CHARS:
            raise ValueError(f"a string in metadata has at most {MAX_VALUE_CHARS} characters")
        if _UNSTORABLE.search(value):
            raise ValueError("a string in metadata has a character that can't be stored")
        return value
    if isinstance(value, int | float):
        # NaN is on no side of anything.
        if not abs(value) <= MAX_NUMBER:
            raise ValueError(f"a number in metadata is at most {MAX_NUMBER} either way")
        return value
    raise ValueError("a value of metadata is a string, a number, true, false or null")


def _check_value(value: object) -> Value:
    if not isinstance(value, list):
        return check_scalar(value)
    if len(value) > MAX_LIST_ITEMS:
        raise ValueError(f"a list in metadata has at most {MAX_LIST_ITEMS} strings")
    items = [check_scalar(item) for item in value]
    if not all(isinstance(item, str) for item in items):
        raise ValueError("a list in metadata has only strings")
    return [str(item) for item in items]
