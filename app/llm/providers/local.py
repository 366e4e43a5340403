"""Embeddings on this machine: all-MiniLM-L6-v2 without torch, in threads of this process."""

import asyncio
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.tokens import Tokenizer
from app.llm.base import FloatMatrix, Purpose
from app.llm.minilm import DIMENSIONS, MAX_INPUT_TOKENS, MODEL, PROVIDER, unusable
from app.llm.wordpiece import WordPieceTokenizer

if TYPE_CHECKING:
    from app.llm.minilm_session import MiniLMSession

MAX_BATCH = 100
MAX_THREADS = 4


class LocalEmbedding:
    """EmbeddingProvider over one model session per process.

    Making one is free: files, threads and packages are touched at the first use, so that a worker
    may fork after it. Queries have threads of their own and never queue behind documents.
    """

    name = PROVIDER
    model = MODEL
    endpoint = ""
    max_input_tokens = MAX_INPUT_TOKENS
    max_batch = MAX_BATCH

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._pieces = WordPieceTokenizer()
        self.tokenizer: Tokenizer = self._pieces
        self._lock = threading.Lock()
        self._session: MiniLMSession | None = None

    async def warm_up(self) -> None:
        """Load the model off the event loop; the first time ever this builds its graph (5 s)."""
        await asyncio.get_running_loop().run_in_executor(self._query_threads, self._loaded)

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> FloatMatrix:
        """Embed texts in order: unit vectors, shape (len(texts), 384); reads 256 word pieces each.

        The purpose changes no vector: this model has no prefixes. Raises ProviderError.
        """
        if len(texts) > MAX_BATCH:
            raise _error(f"At most {MAX_BATCH} texts in one call.", ProviderErrorKind.BAD_REQUEST)
        threads = self._query_threads if purpose is Purpose.QUERY else self._document_threads
        loop = asyncio.get_running_loop()
        # The longest first: the threads then finish together. A cancelled call drops its queue.
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        jobs = [loop.run_in_executor(threads, self._embed_one, texts[index]) for index in order]
        matrix = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for index, vector in zip(order, await asyncio.gather(*jobs), strict=True):
            matrix[index] = vector
        if not np.isfinite(matrix).all():
            raise _error("The local model returned no number.", ProviderErrorKind.PROTOCOL)
        return matrix

    async def aclose(self) -> None:
        """Let the threads end after their current text. The object is not used afterwards."""
        for attribute in ("_query_threads", "_document_threads"):
            threads = self.__dict__.pop(attribute, None)
            if threads is not None:
                threads.shutdown(wait=False, cancel_futures=True)
        self._session = None

    def _embed_one(self, text: str) -> NDArray[np.float32]:
        session = self._loaded()
        return session.vector(self._pieces.ids(text))

    def _loaded(self) -> "MiniLMSession":
        with self._lock:
            if self._session is None:
                try:
                    # An optional package: imported only when this model is used.
                    from app.llm.minilm_session import open_session  # noqa: PLC0415
                except ImportError as exc:
                    raise unusable("is not installed") from exc
                self._session = open_session(self._cache_dir)
            return self._session

    @cached_property
    def _query_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_thread_count(), thread_name_prefix="embed-query")

    @cached_property
    def _document_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_thread_count(), thread_name_prefix="embed-document")


def _thread_count() -> int:
    return min(MAX_THREADS, os.cpu_count() or 1)


def _error(message: str, kind: ProviderErrorKind) -> ProviderError:
    return ProviderError(message, kind=kind, provider=PROVIDER)
