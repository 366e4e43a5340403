"""Which encoding a text is in: as it says itself, or guessed from its bytes."""

import codecs
import re

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
_SHIFTS_TO_JAPANESE = (b"\x1b$B", b"\x1b$@", b"\x1b(J")

_HIGH_BYTES = re.compile(rb"[\x80-\xff]")
# Dashes, quotation marks and the like in Windows-1252: common, and no sign of another encoding.
_TYPOGRAPHY = re.compile(rb"[\x80\x85\x91-\x97\xa0\xab\xbb]")
_ASCII_LETTERS = re.compile(rb"[A-Za-z]")
# In a language of the Latin script fewer letters have an accent; other scripts have no others.
_LATIN_HIGH_SHARE = 0.3
# A guess by language needs some letters.
_LEAST_HIGH_BYTES = 8
_NON_LATIN = (
    *("cp932", "euc_jp", "gb18030", "big5", "cp949", "cp1251", "koi8_r", "koi8_u", "cp866"),
    *("iso8859_5", "cp1253", "cp1255", "cp1256", "cp874"),
)
_CENTRAL_EUROPEAN = ("cp1250", "iso8859_2")
# Read as Windows-1252, texts in others have signs where a letter must be: Polish "wzros³a".
_SIGN_IN_WORD = re.compile(r"(?<=[^\W\d_])[^\w\s'’.,:;/&@+*-](?=[^\W\d_])")
_LEAST_SIGNS_SHARE = 0.05
# Or letters that no language writes side by side: codec, some that each must be frequent, some
# that must be missing. Czech, Turkish.
_STRANGE_LETTERS = (("cp1250", ("ø", "ìè"), "åæàê"), ("cp1254", ("ý", "þð"), "áæ"))
_FREQUENT_SHARE = 0.05

# What a label means on the web: a superset of what it says.
_WEB_LABELS = {
    **dict.fromkeys(("ascii", "iso8859_1"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    "iso8859_9": "cp1254",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
# Codecs of Python that are no encodings of a text, or take quadratic time.
_NO_ENCODINGS = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"})


def find_certain_encoding(data: bytes, *, is_whole: bool = True) -> str | None:
    """Return the codec of `data` where its bytes leave no doubt, or None.

    Tried in this order: a byte order mark; UTF-16 without a mark (zero bytes in only the even or
    only the odd places); ISO-2022-JP; UTF-8; UTF-8 with a few damaged characters. `is_whole=False`
    lets the last character be cut off.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return name
    if b"\0" in data:
        return _find_utf16(data)
    shifts = any(mark in data for mark in _SHIFTS_TO_JAPANESE)
    if shifts and _decodes(data, "iso2022_jp", is_whole=is_whole):
        return "iso2022_jp"
    is_utf8 = _decodes(data, "utf-8", is_whole=is_whole) or _is_mostly_utf8(data)
    return "utf-8" if is_utf8 else None


def find_encoding(data: bytes) -> str | None:
    """Return the codec to decode `data` with, or None for bytes that are no text.

    First what is certain. Then a guess: where most letters are above ASCII the encoding in which
    they make sense as a language; else Windows-1250, ISO-8859-2 or Windows-1254 where Windows-1252
    would give words that no language has; else that, or Latin-1, which takes the five bytes that
    Windows-1252 leaves undefined. The same bytes always give the same answer.
    """
    certain = find_certain_encoding(data)
    if certain is not None or b"\0" in data:
        return certain
    guess = _guess_by_language(data)
    if guess is not None and _decodes(data, guess, is_whole=True):
        return guess
    return "cp1252" if _decodes(data, "cp1252", is_whole=True) else "latin-1"


def decode_text(data: bytes, *, declared: str | None = None) -> str | None:
    """Decode by the declared encoding if all of it decodes so, else by `find_encoding`.

    A byte order mark outranks the declaration. Damaged characters become U+FFFD. None if it is no
    text.
    """
    if declared is not None and not any(data.startswith(mark) for mark, _ in _BOMS):
        text = _decode_declared(data, declared)
        if text is not None:
            return text
    encoding = find_encoding(data)
    return None if encoding is None else data.decode(encoding, errors="replace")


def _decode_declared(data: bytes, declared: str) -> str | None:
    try:
        name = codecs.lookup(declared).name.replace("-", "_")
        if name in _NO_ENCODINGS:
            return None
        return data.decode(_WEB_LABELS.get(name, name))
    # ValueError: a name with a NUL in it, or bytes that don't decode.
    except (LookupError, ValueError):
        return None


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


def _guess_by_language(data: bytes) -> str | None:
    sample = _take_sample(data)
    high = len(_HIGH_BYTES.findall(sample)) - len(_TYPOGRAPHY.findall(sample))
    if high < _LEAST_HIGH_BYTES:
        return None
    if high > _LATIN_HIGH_SHARE * (high + len(_ASCII_LETTERS.findall(sample))):
        return _match_language(sample)
    return _find_other_latin(sample)


def _find_other_latin(sample: bytes) -> str | None:
    """Return the encoding of a Latin text that can't well be in Windows-1252, or None."""
    text = sample.decode("cp1252", errors="replace")
    high = [character for character in text if character > "\x7f"]
    if _count_signs(text) >= _LEAST_SIGNS_SHARE * len(high):
        signs = {name: _count_signs(sample.decode(name, "replace")) for name in _CENTRAL_EUROPEAN}
        best = min(signs, key=lambda name: signs[name])
        return best if signs[best] < _count_signs(text) else None
    for encoding, frequent, missing in _STRANGE_LETTERS:
        shares = [sum(high.count(letter) for letter in group) / len(high) for group in frequent]
        if min(shares) >= _FREQUENT_SHARE and not any(letter in high for letter in missing):
            return encoding
    return None


def _count_signs(text: str) -> int:
    return len(_SIGN_IN_WORD.findall(text))


def _take_sample(data: bytes) -> bytes:
    """Return a part that shows the encoding, not cut inside a character."""
    first = _HIGH_BYTES.search(data)
    start = first.start() if first else 0
    sample = data[start : start + _SAMPLE_BYTES]
    if len(data) - start > _SAMPLE_BYTES:
        # In every encoding that is tried these two bytes are never the second half of a character.
        end = max(sample.rfind(b"\n"), sample.rfind(b" "))
        sample = sample[:end] if end > 0 else sample
    return sample


def _match_language(sample: bytes) -> str | None:
    # Only few texts need it, and importing it takes longer than reading most of them.
    from charset_normalizer import from_bytes  # noqa: PLC0415

    best = from_bytes(
        sample,
        cp_isolation=list(_NON_LATIN),
        preemptive_behaviour=False,
        enable_fallback=False,
    ).best()
    return None if best is None else best.encoding
