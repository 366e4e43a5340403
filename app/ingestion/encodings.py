"""Which encoding a plain text is in. Guessed from its bytes: no file says so."""

import codecs

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 65_536
# Share of zero bytes in every second place from which a text counts as UTF-16: Latin letters have
# one each, and even in other scripts spaces and line ends do.
_UTF16_ZERO_SHARE = 0.05


def find_encoding(data: bytes, *, is_whole: bool = True) -> str | None:
    """Return the codec to decode `data` with, or None for bytes that are no text.

    Tried in this order: a byte order mark; UTF-8; UTF-16 without a mark (zero bytes in only the
    even or only the odd places); UTF-8 with a few damaged characters; Windows-1252; Latin-1, which
    takes the five bytes that Windows-1252 leaves undefined. `is_whole=False` lets the last
    character be cut off.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return name
    if b"\0" in data:
        return _find_utf16(data)
    if _decodes(data, "utf-8", is_whole=is_whole) or _is_mostly_utf8(data):
        return "utf-8"
    return "cp1252" if _decodes(data, "cp1252", is_whole=True) else "latin-1"


def decode_text(data: bytes) -> str | None:
    """Decode by `find_encoding`; damaged characters become U+FFFD. None if it is no text."""
    encoding = find_encoding(data)
    return None if encoding is None else data.decode(encoding, errors="replace")


def _find_utf16(data: bytes) -> str | None:
    sample = data[:_SAMPLE_BYTES]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    least = len(sample) / 2 * _UTF16_ZERO_SHARE
    if odd >= least and not even:
        return "utf-16-le"
    if even >= least and not odd:
        return "utf-16-be"
    return None


def _decodes(data: bytes, encoding: str, *, is_whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(data, final=is_whole)
    except UnicodeDecodeError:
        return False
    return True


def _is_mostly_utf8(data: bytes) -> bool:
    """Say whether damage is rare against intact multi-byte characters: one bad byte in a long
    UTF-8 text must not turn all its accents into Windows-1252 noise."""
    text = data.decode("utf-8", errors="replace")
    damaged = text.count("\ufffd")
    intact = sum(1 for character in text if character > "\x7f") - damaged
    return intact > 10 * damaged
