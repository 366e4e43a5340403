"""Exact token counts: from a vocabulary's file where that is at hand, and never from elsewhere."""

import base64
import hashlib
from pathlib import Path

import pytest
import tiktoken

from app.core.tokens import EstimatingTokenizer, count_tokens, with_margin, without_margin
from app.llm.vocabularies import (
    CL100K,
    O200K,
    OPENAI_VOCABULARIES,
    BytePairTokenizer,
    Vocabularies,
    Vocabulary,
)

WORDS = (b"net", b"ne", b"sales", b"sa", b"les", b"le", b" sales", b" sa", "ü".encode())
RANKS = {bytes([byte]): byte for byte in range(256)} | {
    word: 256 + n for n, word in enumerate(sorted(WORDS, key=len))
}
FILE = b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in RANKS.items())
SMALL = Vocabulary(
    "small",
    "https://vocabularies.invalid/small.tiktoken",
    hashlib.sha256(FILE).hexdigest(),
    O200K.pattern,
)
BY_MODEL = {"small-": SMALL, "small-old": CL100K}


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """A folder as tiktoken leaves it: files named by the hash of their address."""
    name = hashlib.sha1(SMALL.url.encode(), usedforsecurity=False).hexdigest()
    (tmp_path / name).write_bytes(FILE)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("", []),
        ("net sales", [3, 9]),
        ("net sales!", [3, 9, 10]),
        ("ü", [1]),
        ("é", [0, 1]),  # two bytes, of which the first ends no character
        ("<|endoftext|>", list(range(1, 14))),  # what it says, no special token
    ],
)
async def test_ends_are_those_of_the_vocabulary(
    text: str, ends: list[int], cache_dir: Path
) -> None:
    tokenizer = await Vocabularies(cache_dir, BY_MODEL).find("small-1")

    assert tokenizer is not None
    assert list(tokenizer.token_ends(text)) == ends


async def test_it_counts_as_tiktoken_does(cache_dir: Path) -> None:
    text = "Net sales fell 2.8 %\n\n\tin Europe's üblich 売上高 😀 sa les\r\n" * 20
    tokenizer = await Vocabularies(cache_dir, BY_MODEL).find("small-1")
    theirs = tiktoken.Encoding(
        "theirs", pat_str=SMALL.pattern, mergeable_ranks=RANKS, special_tokens={}
    )

    assert tokenizer is not None
    assert count_tokens(text, tokenizer) == len(theirs.encode_ordinary(text))
    ends = tokenizer.token_ends(text)
    assert list(ends) == sorted(ends)
    assert ends[-1] == len(text)


async def test_vocabulary_is_loaded_once_for_all_of_its_models(cache_dir: Path) -> None:
    vocabularies = Vocabularies(cache_dir, BY_MODEL)
    first = await vocabularies.find("small-1")
    for path in cache_dir.iterdir():
        path.unlink()

    assert first is not None
    assert await vocabularies.find("ft:small-2:somebody") is first
    assert await vocabularies.find("openai/small-3") is first


@pytest.mark.parametrize("model", ["gpt-9", "", "other/", "small"])
async def test_unknown_model_has_none(model: str, cache_dir: Path) -> None:
    assert await Vocabularies(cache_dir, BY_MODEL).find(model) is None


async def test_without_a_folder_there_are_none() -> None:
    assert await Vocabularies(None, BY_MODEL).find("small-1") is None


async def test_missing_or_wrong_file_is_none_and_not_downloaded(cache_dir: Path) -> None:
    """A download would fail here: tests have no way out."""
    path = next(cache_dir.iterdir())
    path.write_bytes(FILE[:-1])
    assert await Vocabularies(cache_dir, BY_MODEL).find("small-1") is None
    assert path.read_bytes() == FILE[:-1]  # tiktoken itself would have replaced it

    path.unlink()
    assert await Vocabularies(cache_dir, BY_MODEL).find("small-1") is None
    # The longest prefix counts: this model has another vocabulary, whose file is not there.
    assert await Vocabularies(cache_dir, BY_MODEL).find("small-old") is None
    assert not list(cache_dir.iterdir())


def test_names_agree_with_tiktoken() -> None:
    names = {v.name for v in OPENAI_VOCABULARIES.values()}
    assert names == {"cl100k_base", "o200k_base"}
    for prefix, vocabulary in OPENAI_VOCABULARIES.items():
        try:
            theirs = tiktoken.encoding_name_for_model(prefix)
        except KeyError:
            continue  # newer or older than its table
        assert theirs == vocabulary.name


@pytest.mark.parametrize("vocabulary", [CL100K, O200K])
def test_patterns_split_text_without_losing_any(vocabulary: Vocabulary) -> None:
    encoding = tiktoken.Encoding(
        "bytes",
        pat_str=vocabulary.pattern,
        mergeable_ranks={bytes([byte]): byte for byte in range(256)},
        special_tokens={},
    )
    text = "It's 12,345.67 €:\n\n  naïve 東京 don't\t😀"

    assert count_tokens(text, BytePairTokenizer(encoding)) == len(text.encode())


def test_margins_are_each_others_opposite() -> None:
    for room in range(5000):
        assert with_margin(without_margin(room)) <= room < with_margin(without_margin(room) + 1)


def test_estimate_is_the_same_with_and_without_wide_letters() -> None:
    estimator = EstimatingTokenizer()
    text = "Net sales fell by 2.8 %.\n\nCosts rose."

    assert estimator.token_ends(text) == estimator.token_ends(text + "売")[:-1]
    assert count_tokens("売上高", estimator) == 3
