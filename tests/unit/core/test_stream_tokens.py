"""Stream tokens open one stream for a while, and nothing that was tampered with does."""

import base64
import time
from uuid import uuid4

import pytest

from app.core.errors import NotAuthenticated
from app.core.logging import redact_text
from app.core.security import issue_access_token
from app.core.stream_tokens import (
    StreamAudience,
    StreamClaims,
    StreamScope,
    sign_stream_token,
    verify_stream_token,
)

KEY = "0123456789abcdef" * 4
EVERYTHING = StreamScope(StreamAudience.DOCUMENTS, None)


def claims(scope: StreamScope = EVERYTHING, *, lifetime_s: int = 60) -> StreamClaims:
    return StreamClaims(
        aud=scope.audience,
        sub=uuid4(),
        org=uuid4(),
        sid=uuid4(),
        epoch=3,
        res=scope.resource_id,
        exp=int(time.time()) + lifetime_s,
    )


def code_of(token: str, scope: StreamScope = EVERYTHING, *, key: str = KEY) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        verify_stream_token(key, token, scope)
    return caught.value.code


@pytest.mark.parametrize("scope", [EVERYTHING, StreamScope(StreamAudience.DOCUMENTS, uuid4())])
def test_a_token_says_what_it_was_signed_for(scope: StreamScope) -> None:
    signed = claims(scope)
    token = sign_stream_token(KEY, signed)
    assert token.startswith("st_")
    assert verify_stream_token(KEY, token, scope) == signed


def test_a_token_opens_no_other_stream() -> None:
    one, other = (StreamScope(StreamAudience.DOCUMENTS, uuid4()) for _ in range(2))
    for_one = sign_stream_token(KEY, claims(one))
    assert code_of(for_one, other) == "invalid_token"
    assert code_of(for_one, EVERYTHING) == "invalid_token"
    assert code_of(sign_stream_token(KEY, claims()), one) == "invalid_token"


def test_a_token_ends_to_the_second() -> None:
    signed = claims()
    token = sign_stream_token(KEY, signed)
    verify_stream_token(KEY, token, EVERYTHING, now=signed.exp - 0.1)
    with pytest.raises(NotAuthenticated) as caught:
        verify_stream_token(KEY, token, EVERYTHING, now=signed.exp)
    assert caught.value.code == "token_expired"


def test_a_token_changed_in_any_place_is_refused() -> None:
    token = sign_stream_token(KEY, claims())
    for place, letter in enumerate(token):
        changed = token[:place] + ("A" if letter != "A" else "B") + token[place + 1 :]
        assert code_of(changed) == "invalid_token", place


def test_the_key_is_not_the_one_of_another_purpose() -> None:
    token = sign_stream_token(KEY, claims())
    assert code_of(token, key=KEY[::-1]) == "invalid_token"
    access_token = issue_access_token(
        KEY, user_id=uuid4(), org_id=uuid4(), session_id=uuid4(), epoch=0, lifetime_s=60
    )
    assert code_of(access_token) == "invalid_token"
    assert code_of(f"st_{access_token}") == "invalid_token"


@pytest.mark.parametrize(
    "garbage",
    ["", "st_", "st_.", "st_a.b", "st_" + "a" * 100_000, "st_ü." + "a" * 43, "st_\n." + "a" * 43],
)
def test_garbage_is_refused(garbage: str) -> None:
    assert code_of(garbage) == "invalid_token"


def test_the_same_claims_in_other_letters_are_refused() -> None:
    """Base64 can be written in several ways; what is signed are the letters."""
    head, _, mac = sign_stream_token(KEY, claims()).partition(".")
    assert code_of(f"{head}=.{mac}") == "invalid_token"
    assert code_of(f"{head}.{mac}\n") == "invalid_token"
    raw = base64.urlsafe_b64decode(head[3:] + "==")
    other = base64.urlsafe_b64encode(raw + b" ").rstrip(b"=").decode()
    assert code_of(f"st_{other}.{mac}") == "invalid_token"


def test_a_token_is_masked_in_logs() -> None:
    token = sign_stream_token(KEY, claims())
    assert redact_text(f"GET /events?token={token} failed") == "GET /events?token=[redacted] failed"
