"""The two seams to models: LLMProvider (chat) and EmbeddingProvider."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.core.tokens import Tokenizer

FloatMatrix = NDArray[np.float32]

CONNECT_TIMEOUT_S = 5.0
FIRST_CONTENT_TIMEOUT_S = 30.0
IDLE_TIMEOUT_S = 30.0
TOTAL_TIMEOUT_S = 300.0

# The whole answer when the sources do not hold one; never with a marker.
NOT_IN_DOCUMENTS = "The documents do not contain an answer to this question."
EMBED_BATCH_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a remote model may take, in seconds.

    `first_content_s` ends with the first token, not the first byte, and bounds a query's embedding;
    `idle_s` is the longest pause between two chunks, `total_s` the whole answer.
    """

    connect_s: float = CONNECT_TIMEOUT_S
    first_content_s: float = FIRST_CONTENT_TIMEOUT_S
    idle_s: float = IDLE_TIMEOUT_S
    total_s: float = TOTAL_TIMEOUT_S
    embed_batch_s: float = EMBED_BATCH_TIMEOUT_S


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Source:
    """A numbered passage of the prompt. `n` is what `[n]` in the answer refers to.

    `title` names its document, where that is known.
    """

    n: int
    text: str
    title: str = ""


class ChatOption(StrEnum):
    """What of a request a vendor may know nothing of; by the names of OpenAI's parameters."""

    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    STOP = "stop"
    SEED = "seed"
    USER = "user"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call of a chat model. `model` is the vendor's own id, without our provider prefix.

    An option that the provider's `supports` lacks for the model is left out: whoever takes it from
    a caller refuses it before. `user` is an id for the vendor's watch on abuse, never a name or an
    address. `question` and `sources` repeat what the messages already hold, `phrases` are other
    names of what is asked for; only a provider without a language model (`extractive`) reads them.
    """

    model: str
    messages: tuple[Message, ...]
    temperature: float
    max_tokens: int
    question: str = ""
    phrases: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_p: float | None = None
    user: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `is_estimated` when the provider did not say.

    `cached_input_tokens` are those of `input_tokens` that the vendor had read before.
    """

    input_tokens: int
    output_tokens: int
    is_estimated: bool = False
    cached_input_tokens: int = 0


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an answer. `model` is what the vendor says answered, `cost_usd` what it took."""

    reason: FinishReason
    usage: Usage
    model: str
    cost_usd: Decimal | None = None


class LLMProvider(Protocol):
    """A vendor of chat models."""

    name: str

    def supports(self, model: str) -> frozenset[ChatOption]:
        """Return the options that a model takes. Sends nothing."""
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[TextDelta | Finish]:
        """Yield non-empty text deltas, then exactly one Finish.

        Raises ProviderError instead of Finish on any failure, also when the connection ends
        without the format's terminal marker, and (kind PROTOCOL) when an answer that is said to be
        whole has no text. Closing the iterator closes the socket. Never retries.
        """
        ...

    async def context_window(self, model: str) -> int:
        """Return how many tokens a model takes, prompt and answer together.

        May wait 1 s for the server, once in a while. Never raises: what no server tells comes from
        a table, or is a number that any model takes.
        """
        ...

    async def tokenizer(self, model: str) -> Tokenizer | None:
        """Return what counts a model's tokens exactly, or None where that is not at hand.

        May load it, in a thread. Never raises, sends nothing.
        """
        ...

    async def list_models(self) -> list[str]:
        """Return the vendor's model ids, unprefixed. Raises ProviderError when unreachable."""
        ...

    async def aclose(self) -> None: ...


class Purpose(StrEnum):
    """What a text is embedded for: some models want different prefixes."""

    DOCUMENT = "document"
    QUERY = "query"


class EmbeddingProvider(Protocol):
    """A vendor of embedding models, bound to one model.

    `endpoint` is the address that serves it, empty for this process: two servers may give one name
    to different models.
    """

    name: str
    model: str
    endpoint: str
    max_input_tokens: int
    max_batch: int
    tokenizer: Tokenizer

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> FloatMatrix:
        """Embed texts in order. Returns unit vectors, shape (len(texts), dimensions), float32.

        One call to the vendor, at most `max_batch` texts; never retries. Raises ProviderError, also
        (kind PROTOCOL) when the count, the dimensions or a value is not what it must be.
        """
        ...

    async def aclose(self) -> None: ...
