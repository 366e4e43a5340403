"""What a caller can choose from: models with their state, and what to set to connect more."""

import asyncio
import re
from dataclasses import dataclass

from app.core.errors import NotFound
from app.llm.model_names import EXTRACTIVE, OLLAMA, OPENAI
from app.llm.registry import OLLAMA_PREFERRED, Models

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
    (OLLAMA, "unconfigured"): "Start Ollama, or set OLLAMA_BASE_URL and restart.",
    (OLLAMA, "refused"): "Ollama refuses the request: check OLLAMA_BASE_URL and restart.",
    (OLLAMA, "unreachable"): "Start Ollama, or set OLLAMA_BASE_URL and restart.",
    (OLLAMA, "empty"): f"Pull a model: `ollama pull {OLLAMA_PREFERRED}`.",
}


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A chat model. `context_window` in tokens, None while its provider does not answer."""

    id: str
    provider: str
    is_default: bool
    state: str
    context_window: int | None


@dataclass(frozen=True, slots=True)
class ProviderState:
    """`state` as in `Models.status`; `hint` is one sentence of what to do, None if nothing is."""

    name: str
    state: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class Catalog:
    """`models` by id, the default one first; none is the default where no provider has it."""

    models: tuple[ModelChoice, ...]
    providers: tuple[ProviderState, ...]

    @property
    def is_extractive(self) -> bool:
        return any(model.is_default and model.provider == EXTRACTIVE for model in self.models)


async def read_catalog(models: Models) -> Catalog:
    """Return all that can be chosen. A provider that is down is no error.

    Asks as seldom as `Models` does, and waits for a second or two at most where nothing is known.
    """
    states = await models.status()
    default = await _find_default(models)
    ids = {model_id for model_id in await models.list_models() if _can_chat(model_id)}
    listed = {model_id.partition("/")[0] for model_id in ids}
    ordered = sorted(ids | ({default} if default else set()), key=lambda id_: (id_ != default, id_))
    windows = await asyncio.gather(*(_find_window(models, id_, states) for id_ in ordered))
    choices = tuple(
        ModelChoice(id_, name, id_ == default, states[name], window)
        for id_, window in zip(ordered, windows, strict=True)
        for name in (id_.partition("/")[0],)
    )
    providers = tuple(
        ProviderState(name, state, _hint(models, name, state, has_models=name in listed))
        for name, state in states.items()
    )
    return Catalog(choices, providers)


async def _find_default(models: Models) -> str | None:
    try:
        provider, model = await models.resolve(None)
    except NotFound:
        return None
    return f"{provider.name}/{model}"


async def _find_window(models: Models, model_id: str, states: dict[str, str]) -> int | None:
    provider, model = await models.resolve(model_id)
    return await provider.context_window(model) if states[provider.name] == _OK else None


def _can_chat(model_id: str) -> bool:
    provider, _, model = model_id.partition("/")
    return provider != OPENAI or not _OPENAI_OTHERS.search(model)


def _hint(models: Models, name: str, state: str, *, has_models: bool) -> str | None:
    if models.is_refused(name):
        state = "refused"
    elif state == _OK and not has_models:
        state = "empty"
    return _HINTS.get((name, state))
