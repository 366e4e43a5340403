"""What an API key looks like: `fn_live_` or `fn_test_`, 43 random characters, 6 of a checksum.

All of base62. The 43 are 256 random bits, so there is nothing to guess. The checksum, CRC32 over
everything before it, tells a mistyped key from a real one without the database, and lets scanners
of leaked secrets be sure. The database holds an HMAC under a key that it does not have.
"""

import hmac
import re
import secrets
import string
import zlib

from app.core.errors import NotAuthenticated
from app.models.api_keys import KeyEnvironment

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_CHARS, _CHECKSUM_CHARS = 43, 6
_SECRET = re.compile(r"(?P<signed>fn_(?:live|test)_[0-9A-Za-z]{43})(?P<checksum>[0-9A-Za-z]{6})")
_LABEL = b"footnote api keys 1"
LAST_CHARS = 4


def new_secret(environment: KeyEnvironment) -> str:
    signed = f"fn_{environment.value}_" + "".join(
        secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARS)
    )
    return signed + _checksum_of(signed)


def is_api_key(credential: str) -> bool:
    """Whether it means to be a key; perhaps it is none."""
    return credential.startswith("fn_")


def check_secret(secret: str) -> None:
    """Raise NotAuthenticated (`invalid_api_key`) for what can't be a key of anybody."""
    match = _SECRET.fullmatch(secret)
    if match is None or _checksum_of(match["signed"]) != match["checksum"]:
        raise invalid_api_key()


def hash_secret(secret: str, signing_key: str) -> bytes:
    """Return the 32 bytes that are stored of a key."""
    derived = hmac.digest(signing_key.encode(), _LABEL, "sha256")
    return hmac.digest(derived, secret.encode(), "sha256")


def invalid_api_key() -> NotAuthenticated:
    """For each thing that can be wrong with a key the same answer."""
    return NotAuthenticated(
        "The API key is not valid: it is mistyped, expired or revoked.", code="invalid_api_key"
    )


def _checksum_of(signed: str) -> str:
    number = zlib.crc32(signed.encode())
    digits = []
    for _ in range(_CHECKSUM_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
