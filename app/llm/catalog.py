"""What a caller can choose from: models with their state, and what to set to connect more."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from app.core.errors import NotFound
from app.llm.model_aliases import Alias, Aliases
from app.llm.model_names import (
    ANTHROPIC,
    AZURE,
    COMPATIBLE,
    EXTRACTIVE,
    GEMINI,
    OLLAMA,
    OPENAI,
    OPENROUTER,
    find_missing_package,
    may_use,
)
from app.llm.registry import OLLAMA_PREFERRED, Models
from app.llm.routing import ModelRouter

ALIAS = "alias"
_OK = "ok"
# What OpenAI lists and no chat can be held with.
_OPENAI_OTHERS = re.compile(
    r"audio|babbage|dall-e|davinci|image|moderation|realtime|sora|transcribe|tts|whisper"
    r"|^gpt-3\.5-turbo-instruct"
)

# By provider and state, where something can be done.
_HINTS = {
    (OPENAI, "unconfigured"): "Set OPENAI_API_KEY and restart.",
    (OPENAI, "refused"): "The key is refused: set another OPENAI_API_KEY and restart.",
    (OPENAI, "unreachable"): "The server does not answer: check the network and OPENAI_BASE_URL.",
    (AZURE, "unconfigured"): (
        "Set AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_API_KEY and AZURE_OPENAI_DEPLOYMENTS and restart."
    ),
    (AZURE, "empty"): "Name your deployments in AZURE_OPENAI_DEPLOYMENTS and restart.",
    (COMPATIBLE, "unconfigured"): "Set COMPATIBLE_BASE_URL and restart.",
    (COMPATIBLE, "refused"): "The key is refused: set another COMPATIBLE_API_KEY and restart.",
    (
        COMPATIBLE,
        "unreachable",
    ): "Start the server, or set another COMPATIBLE_BASE_URL and restart.",
    (OPENROUTER, "unconfigured"): "Set OPENROUTER_API_KEY and restart.",
    (OPENROUTER, "refused"): "The key is refused: set another OPENROUTER_API_KEY and restart.",
    (OPENROUTER, "unreachable"): "The server does not answer: check the network.",
    (ANTHROPIC, "unconfigured"): "Set ANTHROPIC_API_KEY and restart.",
    (ANTHROPIC, "refused"): "The key is refused: set another ANTHROPIC_API_KEY and restart.",
    (ANTHROPIC, "unreachable"): "The server does not answer: check the network.",
    (GEMINI, "unconfigured"): "Set GEMINI_API_KEY and restart.",
    (GEMINI, "refused"): "The key is refused: set another GEMINI_API_KEY and restart.",
    (GEMINI, "unreachable"): "The server does not answer: check the network.",
    (OLLAMA, "unconfigured"): "Start Ollama, or set OLLAMA_BASE_URL and restart.",
    (OLLAMA, "refused"): "Ollama refuses the request: check OLLAMA_BASE_URL and restart.",
    (OLLAMA, "unreachable"): "Start Ollama, or set OLLAMA_BASE_URL and restart.",
    (OLLAMA, "empty"): f"Pull a model: `ollama pull {OLLAMA_PREFERRED}`.",
}


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """US dollars for a million tokens."""

    input_usd: Decimal
    output_usd: Decimal


# Provider and model -> what it costs, None where that is not known.
PriceOf = Callable[[str, str], Awaitable[ModelPrice | None]]


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A chat model, or an alias with its `targets`: its `provider` is "alias".

    `context_window` in tokens, None while its provider does not answer; an alias has the smallest
    of its targets, and the state of the best one. Without a known price there is none.
    """

    id: str
    provider: str
    is_default: bool
    state: str
    context_window: int | None
    targets: tuple[str, ...] = ()
    description: str = ""
    price: ModelPrice | None = None


@dataclass(frozen=True, slots=True)
class ProviderState:
    """`state` as in `Models.status`; `hint` is one sentence of what to do, None if nothing is."""

    name: str
    state: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class Catalog:
    """`models` by id, the default one first, then aliases.

    None is the default where no provider has it. `is_extractive` says whether quotes answer when no
    model is named.
    """

    models: tuple[ModelChoice, ...]
    providers: tuple[ProviderState, ...]
    is_extractive: bool


async def read_catalog(
    router: ModelRouter,
    *,
    allowed: frozenset[str] | None = None,
    price_of: PriceOf | None = None,
) -> Catalog:
    """Return all that the caller can choose. A provider that is down is no error.

    Asks as seldom as `Models` does, and waits for a second or two at most where nothing is known.
    Raises what the database raises.
    """
    models, aliases = router.models, await router.aliases.find_all()
    states = await models.status()
    default = await router.find_default()
    ids = {model_id for model_id in await models.list_models() if _can_chat(model_id)}
    listed = {model_id.partition("/")[0] for model_id in ids}
    if default is not None and default not in aliases:
        ids.add(default)
    shown = [each for each in {*ids, *aliases} if may_use(each, allowed)]
    read = _Reading(models, aliases, states, price_of)
    choices = await asyncio.gather(*(read.choice(id_, is_default=id_ == default) for id_ in shown))
    choices.sort(key=lambda each: (not each.is_default, each.provider != ALIAS, each.id))
    providers = tuple(
        ProviderState(name, state, _hint(models, name, state, has_models=name in listed))
        for name, state in states.items()
    )
    return Catalog(tuple(choices), providers, is_extractive=_is_extractive(default))


def _is_extractive(default: str | None) -> bool:
    return default is not None and default.partition("/")[0] == EXTRACTIVE


@dataclass(frozen=True, slots=True)
class _Reading:
    models: Models
    aliases: Aliases
    states: Mapping[str, str]
    price_of: PriceOf | None

    async def choice(self, id_: str, *, is_default: bool) -> ModelChoice:
        if alias := self.aliases.get(id_):
            return await self._alias(alias, is_default=is_default)
        name, _, model = id_.partition("/")
        return ModelChoice(
            id=id_,
            provider=name,
            is_default=is_default,
            state=self.states[name],
            context_window=await self._window(id_),
            price=await self.price_of(name, model) if self.price_of else None,
        )

    async def _alias(self, alias: Alias, *, is_default: bool) -> ModelChoice:
        ids = self._models_behind(alias, frozenset())
        windows = await asyncio.gather(*map(self._window, ids))
        states = {self.states.get(id_.partition("/")[0], "unconfigured") for id_ in ids}
        return ModelChoice(
            id=alias.name,
            provider=ALIAS,
            is_default=is_default,
            state=next((s for s in (_OK, "unreachable") if s in states), "unconfigured"),
            context_window=min((each for each in windows if each is not None), default=None),
            targets=tuple(target.model for target in alias.targets),
            description=alias.description,
        )

    def _models_behind(self, alias: Alias, seen: frozenset[str]) -> list[str]:
        seen |= {alias.name}
        found: list[str] = []
        for target in alias.targets:
            inner = self.aliases.get(target.model)
            if inner is None:
                found.append(target.model)
            elif inner.name not in seen:
                found += self._models_behind(inner, seen)
        return found

    async def _window(self, id_: str) -> int | None:
        try:
            provider, model = await self.models.resolve(id_)
        except NotFound:
            return None
        return await provider.context_window(model) if self.states[provider.name] == _OK else None


def _can_chat(model_id: str) -> bool:
    provider, _, model = model_id.partition("/")
    return provider != OPENAI or not _OPENAI_OTHERS.search(model)


def _hint(models: Models, name: str, state: str, *, has_models: bool) -> str | None:
    if models.is_refused(name):
        state = "refused"
    elif state == _OK and not has_models:
        state = "empty"
    return hint_for(name, state)


def hint_for(provider: str, state: str) -> str | None:
    """Return what to do about a provider in a state, None if nothing is."""
    if state == "unconfigured" and (package := find_missing_package(provider)):
        return f"Run `pip install {package}`, set {provider.upper()}_API_KEY and restart."
    return _HINTS.get((provider, state))
