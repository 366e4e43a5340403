"""What an answer cost: the sum over the models that were asked."""

from collections.abc import Sequence

from app.chat.stored_answers import to_usd
from app.llm.attempts import Attempt
from app.llm.base import Usage
from app.llm.model_names import EXTRACTIVE, OLLAMA

# They cost nothing, whether anybody keeps accounts or not.
_FREE_PROVIDERS = frozenset({EXTRACTIVE, OLLAMA})
_NOTHING = Usage(0, 0)


def cost_of(attempts: Sequence[Attempt]) -> str | None:
    """Return dollars as a decimal string; None where what one of them cost is not known."""
    costs = [_nano_of(attempt) for attempt in attempts if attempt.is_call]
    known = [cost for cost in costs if cost is not None]
    return to_usd(sum(known)) if len(known) == len(costs) else None


def _nano_of(attempt: Attempt) -> int | None:
    if attempt.cost_nano is not None:
        return attempt.cost_nano
    is_free = attempt.candidate.provider.name in _FREE_PROVIDERS or attempt.usage == _NOTHING
    return 0 if is_free else None
