"""Access tokens: only what we signed, for now, and nothing else, whatever is thrown at it."""

import ast
import base64
import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.core.errors import NotAuthenticated, UnprocessableRequest
from app.core.security import (
    PasswordHasher,
    hash_opaque_token,
    issue_access_token,
    new_opaque_token,
    normalize_password,
    verify_access_token,
)

KEY = "0123456789abcdef" * 4
NOW = 1_800_000_000
HEADER = {"alg": "HS256", "typ": "at+jwt"}


def claims(**changes: Any) -> dict[str, Any]:
    return {
        "iss": "footnote",
        "aud": "footnote-api",
        "sub": str(uuid4()),
        "org": str(uuid4()),
        "sid": str(uuid4()),
        "jti": "1",
        "iat": NOW,
        "exp": NOW + 900,
        "epoch": 0,
    } | changes


def encode(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header: Any, payload: Any, key: bytes = KEY.encode(), digest: str = "sha256") -> str:
    signed = f"{encode(header)}.{encode(payload)}"
    return f"{signed}.{encode(hmac.new(key, signed.encode(), digest).digest())}"


def assert_refused(token: str, code: str = "invalid_token", now: int = NOW) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        verify_access_token(KEY, token, now=now)
    assert caught.value.code == code


def test_a_token_that_we_issued_is_accepted() -> None:
    user_id, org_id, session_id = uuid4(), uuid4(), uuid4()
    token = issue_access_token(
        KEY,
        user_id=user_id,
        org_id=org_id,
        session_id=session_id,
        epoch=3,
        lifetime_s=900,
        now=NOW,
    )
    verified = verify_access_token(KEY, token, now=NOW)
    assert (verified.sub, verified.org, verified.epoch) == (str(user_id), str(org_id), 3)
    assert verify_access_token(KEY, forge(HEADER, claims()), now=NOW).iat == NOW


def test_other_algorithms_and_headers_are_refused() -> None:
    public_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ssh = public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    for algorithm in ("none", "nOnE", "NONE", "RS256", "ES256", "HS384", "HS512", "dir", None):
        assert_refused(forge({"alg": algorithm, "typ": "at+jwt"}, claims()))
        assert_refused(f"{encode({'alg': algorithm, 'typ': 'at+jwt'})}.{encode(claims())}.")
    assert_refused(forge({"alg": "HS512", "typ": "at+jwt"}, claims(), digest="sha512"))
    for key in (der, pem, ssh, b""):
        assert_refused(forge(HEADER, claims(), key=key))
    for extra in ({"kid": "/dev/null"}, {"jku": "http://x/"}, {"x5u": "http://x/"}, {"b64": False}):
        assert_refused(forge(HEADER | extra, claims()))
    for kind in ("JWT", "refresh", None):
        assert_refused(forge({"alg": "HS256", "typ": kind}, claims()))


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "org", "sid", "jti", "iat", "exp", "epoch"])
def test_every_claim_is_needed_and_of_its_type(claim: str) -> None:
    absent = claims()
    del absent[claim]
    assert_refused(forge(HEADER, absent))
    wrong: list[Any] = [None, [], {}, True, "x", 1e999, -(10**400), "9" * 2000, [claims()[claim]]]
    if claim in ("iat", "exp", "epoch"):
        wrong.append(str(NOW))
    else:
        wrong.append(1)
    for value in wrong:
        if claim == "jti" and isinstance(value, str):
            continue
        with pytest.raises(NotAuthenticated):
            verify_access_token(KEY, forge(HEADER, claims(**{claim: value})), now=NOW)


def test_unknown_claims_are_refused() -> None:
    assert_refused(forge(HEADER, claims(admin=True)))


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b.c", "a" * 5000, "é.é.é", "\ud800.x.y", "a.b.c.d.e", "." * 4096],
)
def test_garbage_is_refused(token: str) -> None:
    assert_refused(token)
    assert_refused(forge(HEADER, b"\xff\xfe"))
    assert_refused(forge(b"[" * 1000, claims()))
    assert_refused(forge(HEADER, [1, 2]))


def test_times_have_half_a_minute_of_leeway() -> None:
    token = forge(HEADER, claims())
    verify_access_token(KEY, token, now=NOW + 900 + 29)
    assert_refused(token, "token_expired", now=NOW + 900 + 31)
    verify_access_token(KEY, token, now=NOW - 29)
    assert_refused(token, now=NOW - 31)


def test_a_token_seen_before_is_judged_again() -> None:
    token = forge(HEADER, claims())
    assert verify_access_token(KEY, token, now=NOW) is verify_access_token(KEY, token, now=NOW)

    assert_refused(token, "token_expired", now=NOW + 931)
    assert_refused(token, now=NOW - 31)
    with pytest.raises(NotAuthenticated):
        verify_access_token(KEY[::-1], token, now=NOW)
    with pytest.raises(NotAuthenticated):
        verify_access_token(KEY, token[:-2] + ("AA" if token[-2:] != "AA" else "BB"), now=NOW)


def test_a_changed_signature_is_refused() -> None:
    token = forge(HEADER, claims())
    head, payload, signature = token.split(".")
    for changed in (signature[:-2], "", "A" * len(signature), signature + "AA"):
        assert_refused(f"{head}.{payload}.{changed}")
    assert_refused(f"{head}.{encode(claims(epoch=1))}.{signature}")


def test_jose_is_imported_in_one_module_only() -> None:
    root = Path(__file__).parents[3]
    importers = set()
    for path in [*root.glob("app/**/*.py"), *root.glob("worker/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            if any(name.split(".")[0] == "jose" for name in names):
                importers.add(path.relative_to(root).as_posix())
    assert importers == {"app/core/security.py"}


async def test_passwords_are_argon2id_and_verify() -> None:
    hasher = PasswordHasher()
    password_hash = await hasher.hash(normalize_password("correct horse battery"))
    assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hasher.verify("correct horse battery", password_hash)
    assert not await hasher.verify("correct horse batterx", password_hash)
    assert not await hasher.verify("correct horse battery", None)
    assert not await hasher.verify("x" * 100_000, password_hash)
    assert not await hasher.verify("", password_hash)


# Each caller has looked `hash` up before any of them has run, as it is when two come at once.
_FIRST_PASSWORDS = """
from concurrent.futures import ThreadPoolExecutor
from app.core.security import _hasher

hashers = [_hasher.hash for _ in range(8)]
with ThreadPoolExecutor(8) as threads:
    print(len(set(threads.map(lambda hash: hash("correct horse"), hashers))))
"""


def test_the_first_passwords_after_a_start_may_come_at_once() -> None:
    first = [sys.executable, "-c", _FIRST_PASSWORDS]
    done = subprocess.run(first, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("8\n", 0), done.stderr[-500:]


def test_composed_and_decomposed_passwords_are_the_same() -> None:
    assert normalize_password("pässwörd") == normalize_password("pa\u0308sswo\u0308rd")


@pytest.mark.parametrize("password", ["", "1234567", "x" * 257, "nul\0nul\0nul", "\ud800" * 8])
def test_unusable_passwords_are_named(password: str) -> None:
    with pytest.raises(UnprocessableRequest):
        normalize_password(password)


def test_opaque_tokens_are_random_and_stored_hashed() -> None:
    first, second = new_opaque_token(), new_opaque_token()
    assert first != second
    assert len(base64.urlsafe_b64decode(first + "==")) == 32
    assert hash_opaque_token(first) == hashlib.sha256(first.encode()).digest()
