"""The encoding of a text by its bytes."""

import codecs

import pytest

from app.ingestion.encodings import decode_text, find_certain_encoding, find_encoding

RUSSIAN = "Это обычный текст на русском языке, и в нём есть пробелы."
JAPANESE = "これは日本語の文章です。売上高は前年比で三パーセント増加しました。"
CHINESE = "这是一个中文文档。去年的销售额增长了百分之三。"
POLISH = "Wartość sprzedaży wzrosła o trzy procent w ciągu roku, a spółka wypłaci dywidendę."
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy. Hodnota tržeb vzrostla, řekl předseda."
TURKISH = "Satışlar geçen yıla göre yüzde üç arttı; şirketin gelişmesi iyi, dağıtım da öyle."
FRENCH = "L’année dernière, où l’élève Søren était né, le café a coûté 3 € de plus à Noël."
GERMAN = "Größe: 5 € – die Länge der Straße beträgt fünf Kilometer, über die „Brücke“ dort."


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "cp1252"],
)
def test_text_is_decoded_in_every_encoding_that_is_certain(encoding: str) -> None:
    text = "Größe: 5 € – “naïve” café"
    assert decode_text(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "iso8859-5"),
        (RUSSIAN, "cp866"),
        (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (CHINESE, "gb18030"),
        ("這是一個中文文件。去年的銷售額增長了百分之三。", "big5"),
        ("이것은 한국어 문서입니다. 작년 매출은 증가했습니다.", "cp949"),
        ("Αυτό είναι ένα ελληνικό κείμενο. Οι πωλήσεις αυξήθηκαν.", "cp1253"),
        ("זהו מסמך בעברית. המכירות גדלו בשלושה אחוזים.", "cp1255"),
        ("هذه وثيقة باللغة العربية. زادت المبيعات.", "cp1256"),
        (POLISH, "cp1250"),
        (POLISH, "iso8859-2"),
        (CZECH, "cp1250"),
        (TURKISH, "cp1254"),
        (FRENCH, "cp1252"),
        (GERMAN, "cp1252"),
    ],
)
@pytest.mark.parametrize("repeats", [1, 2000])
def test_other_encodings_are_told_by_the_language(text: str, encoding: str, repeats: int) -> None:
    whole = "\n".join([text] * repeats)
    assert decode_text(whole.encode(encoding)) == whole


def test_one_foreign_word_does_not_change_the_encoding() -> None:
    for text in ("café", "Kraków? Não! 3 m² à 5 °C"):
        assert decode_text(text.encode("cp1252")) == text


def test_russian_utf16_without_a_mark_is_known_by_its_spaces() -> None:
    assert decode_text(RUSSIAN.encode("utf-16-le")) == RUSSIAN


def test_one_damaged_byte_does_not_turn_utf8_into_another_encoding() -> None:
    data = ("Größe und Länge. " * 20).encode() + b"\xff" + b" Ende"
    text = decode_text(data)
    assert text is not None
    assert text.count("Größe") == 20
    assert text.count("\ufffd") == 1


def test_a_character_that_is_cut_off_leaves_utf8_certain() -> None:
    assert find_certain_encoding("xé".encode()[:-1], is_whole=False) == "utf-8"
    assert find_certain_encoding("xé".encode()[:-1]) is None


def test_bytes_that_windows_1252_leaves_undefined_are_latin1() -> None:
    assert find_encoding(b"caf\xe9 \x81") == "latin-1"


def test_binary_is_no_text() -> None:
    assert decode_text(bytes(range(256)) * 4) is None
    assert decode_text(codecs.BOM_UTF8 + b"hello") == "hello"


@pytest.mark.parametrize(
    ("data", "declared", "text"),
    [
        ("цена".encode("koi8-r"), "KOI8-R", "цена"),
        (b"\x93quoted\x94", "iso-8859-1", "“quoted”"),
        ("①".encode("cp932"), "Shift_JIS", "①"),
        ("café".encode(), "us-ascii", "cafÃ©"),
        ("café".encode(), "utf-16", "café"),
        ("café".encode("utf-16"), "utf-8", "café"),
        ("café".encode(), "no-such-encoding", "café"),
        ("café".encode(), "nul\0", "café"),
        ("café".encode(), "rot13", "café"),
        (b"caf\\u00e9", "unicode_escape", "caf\\u00e9"),
        (b"caf-dma", "punycode", "caf-dma"),
    ],
)
def test_a_declared_encoding_is_taken_where_it_is_one(
    data: bytes, declared: str, text: str
) -> None:
    assert decode_text(data, declared=declared) == text
