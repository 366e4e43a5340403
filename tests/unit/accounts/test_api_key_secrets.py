"""The format of API keys: told from anything else without the database."""

import re
import string
import zlib

import pytest

from app.accounts.api_key_secrets import check_secret, hash_secret, is_api_key, new_secret
from app.accounts.permissions import Scope
from app.core.errors import NotAuthenticated
from app.core.logging import redact_text
from app.models.api_keys import KeyEnvironment

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


@pytest.mark.parametrize("environment", KeyEnvironment)
def test_a_key_has_its_environment_256_bits_and_a_checksum(environment: KeyEnvironment) -> None:
    keys = {new_secret(environment) for _ in range(2_000)}
    assert len(keys) == 2_000
    for key in keys:
        assert re.fullmatch(rf"fn_{environment}_[0-9A-Za-z]{{49}}", key)
        assert is_api_key(key)
        check_secret(key)
        number = 0
        for digit in key[-6:]:
            number = 62 * number + BASE62.index(digit)
        assert number == zlib.crc32(key[:-6].encode())
    assert 62**43 > 2**256
    # Each place takes each character.
    assert all(len({key[place] for key in keys}) == 62 for place in range(8, 8 + 43))


def test_one_wrong_character_is_noticed() -> None:
    key = new_secret(KeyEnvironment.LIVE)
    wrong = [
        *(key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1 :] for at in range(len(key))),
        *(key[:at] + key[at + 1 :] for at in range(len(key))),
        *(key[:at] + key[at + 1] + key[at] + key[at + 2 :] for at in range(8, len(key) - 1)),
        key.replace("live", "test"),
        key.upper(),
        f"{key} ",
        f"{key}\n",
        f"{key}0",
        key[:-1] + "é",
        "fn_",
        "fn_live_" + "٣" * 49,
        "",
    ]
    for each in set(wrong) - {key}:
        with pytest.raises(NotAuthenticated) as refused:
            check_secret(each)
        assert refused.value.code == "invalid_api_key"
        assert key[8:20] not in refused.value.message


def test_what_is_stored_depends_on_the_signing_key_and_is_not_the_key() -> None:
    key = new_secret(KeyEnvironment.LIVE)
    stored = hash_secret(key, "a" * 32)
    assert len(stored) == 32
    assert stored == hash_secret(key, "a" * 32)
    assert stored != hash_secret(key, "b" * 32)
    assert stored != hash_secret(new_secret(KeyEnvironment.LIVE), "a" * 32)


def test_a_key_in_a_message_is_masked() -> None:
    for environment in KeyEnvironment:
        key = new_secret(environment)
        assert redact_text(f"bad key {key}, sorry") == "bad key [redacted], sorry"
        assert key not in redact_text(f'{{"X-API-Key":"{key}"}}')


def test_scopes_include_the_ones_before() -> None:
    assert list(Scope) == ["read", "write", "admin"]
