"""What a User-Agent header becomes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.user_agents import name_client

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_LINUX = f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT}"
_WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT}"
_ANDROID = f"Mozilla/5.0 (Linux; Android 15; K) {_WEBKIT}"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko)"
)


@pytest.mark.parametrize(
    ("user_agent", "client"),
    [
        (f"{_LINUX} Chrome/142.0.0.0 Safari/537.36", "Chrome on Linux"),
        (f"{_LINUX} HeadlessChrome/142.0.0.0 Safari/537.36", "Chrome on Linux"),
        (f"{_WINDOWS} Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0", "Edge on Windows"),
        (f"{_WINDOWS} Chrome/142.0.0.0 Safari/537.36 OPR/120.0.0.0", "Opera on Windows"),
        (f"{_ANDROID} Chrome/142.0.0.0 Mobile Safari/537.36", "Chrome on Android"),
        (
            f"{_ANDROID} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
            "Samsung Internet on Android",
        ),
        (f"{_MAC} Version/18.5 Safari/605.1.15", "Safari on macOS"),
        (f"{_IPHONE} Version/18.5 Mobile/15E148 Safari/604.1", "Safari on iPhone"),
        (f"{_IPHONE} CriOS/142.0.0.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone"),
        (f"{_IPHONE} FxiOS/140.0 Mobile/15E148 Safari/604.1", "Firefox on iPhone"),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Firefox on Linux",
        ),
        ("Mozilla/5.0 (Plan 9) Firefox/1.0", "Firefox"),
        ("Mozilla/5.0 (compatible; Anything)", ""),
        ("curl/8.5.0", "curl 8.5.0"),
        ("python-requests/2.32.3", "python-requests 2.32.3"),
        ("MyReader (contact: me@example.com)", "MyReader"),
        ("", ""),
        ("   ", ""),
        ("<img src=x onerror=alert(1)>", ""),
        ("evil\u202egnp.exe/1", ""),
        ("x" * 5000, ""),
        ("日本/1.0", ""),
    ],
)
def test_the_name_of_a_client(user_agent: str, client: str) -> None:
    assert name_client(user_agent) == client


@given(st.text(max_size=2000) | st.from_regex(r"[A-Za-z]{1,99}/[\w.+-]{0,99}.*"))
def test_it_is_short_plain_text_whatever_is_sent(user_agent: str) -> None:
    named = name_client(user_agent)
    assert len(named) <= 64
    assert named.isascii()
    assert named.isprintable() or named == ""
    assert not set("<>&\"'") & set(named)
