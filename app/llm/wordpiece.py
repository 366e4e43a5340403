"""The model's own word pieces: counting them, and the ids that it reads."""

import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.llm.minilm import MAX_INPUT_TOKENS, model_dir, unusable

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

CLS_ID, SEP_ID = 101, 102
# An encoding costs about 100 bytes a character: long texts are encoded piece by piece.
WINDOW_CHARS = 32_768
# Far more than 256 word pieces of any text but one of blanks; the rest could not be read anyway.
MAX_EMBED_CHARS = 16_384
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LAST_SPACE = re.compile(r"\s(?=\S*\Z)")


class WordPieceTokenizer:
    """BERT's uncased word pieces. Loads on first use (about 30 ms); safe in several threads.

    Every method raises ProviderError when the packages are missing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokenizer: Tokenizer | None = None

    def token_ends(self, text: str) -> list[int]:
        """End offset of each word piece in code points, ascending, without [CLS] and [SEP].

        Word pieces of one composed character (Hangul) end at the same offset.
        """
        ends: list[int] = []
        for start, window in _windows(text):
            ends.extend(start + end for _, end in self._encode(window).offsets)
        return ends

    def ids(self, text: str) -> NDArray[np.int64]:
        """Ids of the first 254 word pieces between [CLS] and [SEP], shape (n,), n from 2 to 256."""
        pieces = self._encode(text[:MAX_EMBED_CHARS]).ids[: MAX_INPUT_TOKENS - 2]
        return np.array([CLS_ID, *pieces, SEP_ID], dtype=np.int64)

    def _encode(self, text: str) -> "Encoding":
        # The library refuses lone surrogates; one code point for another keeps the offsets.
        clean = _SURROGATE.sub("\ufffd", text)
        return self._loaded().encode(clean, add_special_tokens=False)

    def _loaded(self) -> "Tokenizer":
        with self._lock:
            if self._tokenizer is None:
                try:
                    # An optional package: imported only when this model is used.
                    from tokenizers import Tokenizer  # noqa: PLC0415
                except ImportError as exc:
                    raise unusable("is not installed") from exc
                tokenizer = Tokenizer.from_file(str(model_dir() / "tokenizer.json"))
                # The file asks for 128 tokens exactly, cut or padded.
                tokenizer.no_truncation()
                tokenizer.no_padding()
                self._tokenizer = tokenizer
            return self._tokenizer


def _windows(text: str) -> Iterator[tuple[int, str]]:
    """Cut a long text at white space, where a cut changes no word piece; yield offset and part."""
    start = 0
    while len(text) - start > WINDOW_CHARS:
        window = text[start : start + WINDOW_CHARS]
        space = _LAST_SPACE.search(window)
        part = window[: space.end()] if space else window
        yield start, part
        start += len(part)
    yield start, text[start:]
