"""From a User-Agent header to a few words for people, such as "Chrome on Linux"."""

import re

# The first that is found: each browser also claims to be those behind it.
_BROWSERS = (
    ("Edge", re.compile(r"\bEdg(?:e|A|iOS)?/")),
    ("Opera", re.compile(r"\b(?:OPR|OPiOS|Opera)/")),
    ("Samsung Internet", re.compile(r"\bSamsungBrowser/")),
    ("Vivaldi", re.compile(r"\bVivaldi/")),
    ("Firefox", re.compile(r"\b(?:Firefox|FxiOS)/")),
    ("Chrome", re.compile(r"\b(?:HeadlessChrome|Chrome|CriOS)/")),
    ("Safari", re.compile(r"\bSafari/")),
)
_SYSTEMS = (
    ("Android", re.compile(r"\bAndroid\b")),
    ("iPhone", re.compile(r"\biPhone\b")),
    ("iPad", re.compile(r"\biPad\b")),
    ("ChromeOS", re.compile(r"\bCrOS\b")),
    ("Windows", re.compile(r"\bWindows\b")),
    ("macOS", re.compile(r"\bMac OS X\b")),
    ("Linux", re.compile(r"\b(?:Linux|X11)\b")),
)
# What programs send, such as curl/8.5.0. Mozilla is what everything calls itself.
_PRODUCT = re.compile(
    r"(?!Mozilla\b)([A-Za-z][\w.+-]{0,39})(?:/(\w[\w.+-]{0,19}))?(?![^\s(;,])", re.ASCII
)
_MAX_READ_CHARS = 1000


def find_browser(user_agent: str) -> str | None:
    """Return the name of a browser that is known, None for all else."""
    read = user_agent[:_MAX_READ_CHARS]
    return next((name for name, pattern in _BROWSERS if pattern.search(read)), None)


def name_client(user_agent: str) -> str:
    """Return at most 64 printable ASCII characters; empty for what nobody knows.

    What a program calls itself is in it, so it is untrusted text.
    """
    read = user_agent[:_MAX_READ_CHARS]
    browser = find_browser(read)
    system = next((name for name, pattern in _SYSTEMS if pattern.search(read)), None)
    if browser is not None:
        return f"{browser} on {system}" if system else browser
    product = _PRODUCT.match(read)
    return " ".join(filter(None, product.groups())) if product else ""
