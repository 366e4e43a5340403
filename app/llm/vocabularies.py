"""Exact token counts for OpenAI's models, where tiktoken and a vocabulary's file are at hand.

tiktoken is an optional extra, and by itself it downloads a vocabulary that it does not find. Here
the file is read from TIKTOKEN_CACHE_DIR, under the name that tiktoken gave it, or not at all.
"""

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from app.core.tokens import Tokenizer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A published vocabulary: where it comes from, the SHA-256 of its file, how text is split."""

    name: str
    url: str
    sha256: str
    pattern: str


_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
CL100K = Vocabulary(
    "cl100k_base",
    _URL.format("cl100k_base"),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
)
O200K = Vocabulary(
    "o200k_base",
    _URL.format("o200k_base"),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTION}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTION}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
# By the beginning of a model's name; the longest counts.
OPENAI_VOCABULARIES: Mapping[str, Vocabulary] = {
    "gpt-3.5-turbo": CL100K,
    "gpt-4": CL100K,
    "gpt-4o": O200K,
    "gpt-4.1": O200K,
    "gpt-4.5": O200K,
    "chatgpt-4o": O200K,
    "gpt-5": O200K,
    "gpt-oss": O200K,
    "o1": O200K,
    "o3": O200K,
    "o4": O200K,
}


class _Encoding(Protocol):
    """What is used of tiktoken.Encoding."""

    def encode_ordinary(self, text: str) -> list[int]: ...

    def decode_with_offsets(self, tokens: Sequence[int]) -> tuple[str, list[int]]: ...


class BytePairTokenizer:
    """A vocabulary in use. Special tokens in a text are counted as the text that they are."""

    def __init__(self, encoding: _Encoding) -> None:
        self._encoding = encoding

    def token_ends(self, text: str) -> list[int]:
        """See Tokenizer. Tokens within one character end where it begins, the last one after it."""
        tokens = self._encoding.encode_ordinary(text)
        _, starts = self._encoding.decode_with_offsets(tokens)
        return [*starts[1:], len(text)] if tokens else []


class Vocabularies:
    """The tokenizers of models, loaded when they are first asked for (0.3 s and 80 MB each).

    Without `cache_dir` there are none.
    """

    def __init__(
        self, cache_dir: Path | None, by_model: Mapping[str, Vocabulary] = OPENAI_VOCABULARIES
    ) -> None:
        self._cache_dir = cache_dir
        self._by_model = by_model
        self._loaded: dict[str, Tokenizer | None] = {}
        self._lock = asyncio.Lock()

    async def find(self, model: str) -> Tokenizer | None:
        """Return the tokenizer of a model, or None: unknown, not installed, no file or a wrong one.

        Loads in a thread, once. Sends nothing.
        """
        name = model.rpartition("/")[2].removeprefix("ft:")
        prefixes = [prefix for prefix in self._by_model if name.startswith(prefix)]
        if self._cache_dir is None or not prefixes:
            return None
        vocabulary = self._by_model[max(prefixes, key=len)]
        async with self._lock:
            if vocabulary.name not in self._loaded:
                # The name that tiktoken gives the file.
                file_name = hashlib.sha1(vocabulary.url.encode(), usedforsecurity=False).hexdigest()
                path = self._cache_dir / file_name
                self._loaded[vocabulary.name] = await asyncio.to_thread(_load, vocabulary, path)
            return self._loaded[vocabulary.name]


def _load(vocabulary: Vocabulary, path: Path) -> Tokenizer | None:
    """Return a tokenizer, or log why there is none."""
    try:
        import tiktoken  # noqa: PLC0415  # optional

        content = path.read_bytes()
    except (ImportError, OSError) as exc:
        reason = "not_installed" if isinstance(exc, ImportError) else "no_file"
        log.warning("tokenizer_missing", vocabulary=vocabulary.name, reason=reason)
        return None
    if hashlib.sha256(content).hexdigest() != vocabulary.sha256:
        log.warning("tokenizer_missing", vocabulary=vocabulary.name, reason="wrong_file")
        return None
    pairs = (line.split() for line in content.splitlines() if line)
    return BytePairTokenizer(
        tiktoken.Encoding(
            vocabulary.name,
            pat_str=vocabulary.pattern,
            mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in pairs},
            special_tokens={},
        )
    )
