"""What a call of a model is measured by, whoever keeps the accounts."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from app.llm.base import Usage


class CallKind(StrEnum):
    CHAT = "chat"
    REWRITE = "rewrite"
    RERANK = "rerank"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call that is about to be made. `input_tokens` are estimated; `attempt` counts from 1."""

    kind: CallKind
    provider: str
    model: str
    input_tokens: int
    max_output_tokens: int = 0
    attempt: int = 1


@dataclass(slots=True)
class CallResult:
    """What a call comes to: whoever calls fills it in, at the latest when the call ends.

    `cost_usd` is what the provider says it cost. Without `usage` the call counts as its input.
    `cost_nano` (nano-USD) is there when the measuring has ended; None where no price is known.
    """

    usage: Usage | None = None
    cost_usd: Decimal | None = None
    error_code: str | None = None
    cost_nano: int | None = None


class CallMeter(Protocol):
    """Keeps the accounts of one caller."""

    def measure(self, call: ModelCall) -> AbstractAsyncContextManager[CallResult]:
        """Reserve what the call may cost, and settle when the block ends, however it ends.

        Raises, before the call: BudgetExceeded, RateLimited (tokens of the day, or money that only
        other calls hold), Unavailable (`budget_unavailable`).
        """
        ...


class Unmetered:
    """For work that is nobody's: warming up, benchmarks."""

    @asynccontextmanager
    async def measure(self, call: ModelCall) -> AsyncIterator[CallResult]:
        yield CallResult()


UNMETERED = Unmetered()
