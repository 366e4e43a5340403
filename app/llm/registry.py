"""Which models there are: providers by name, the choice of one for a request, embedding models.

To add a provider: a file in `providers/`, its name in `model_names.py`, and a line in PROVIDERS or
EMBEDDINGS.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module

import structlog

from app.config import LOCAL_EMBEDDING_MODEL, Settings
from app.core.errors import NotFound, ProviderError, ProviderErrorKind
from app.llm.base import EmbeddingProvider, LLMProvider, Timeouts
from app.llm.model_lists import ModelList
from app.llm.model_names import (
    ANTHROPIC,
    AZURE,
    COMPATIBLE,
    EXTRACTIVE,
    GEMINI,
    LOCAL,
    OLLAMA,
    OPENAI,
    OPENROUTER,
    ModelsMisconfigured,
    check_embedding_model,
    check_models,
    find_missing_package,
    may_use,
)
from app.llm.providers.azure import AzureEmbedding, AzureProvider
from app.llm.providers.compatible import CompatibleEmbedding, CompatibleProvider
from app.llm.providers.extractive import ExtractiveProvider
from app.llm.providers.local import LocalEmbedding
from app.llm.providers.ollama import OllamaEmbedding, OllamaProvider
from app.llm.providers.openai import OpenAIEmbedding, OpenAIProvider
from app.llm.providers.openrouter import OpenRouterProvider
from app.llm.vocabularies import Vocabularies

log = structlog.get_logger()

OPENAI_DEFAULT = "gpt-4.1-mini"
# It chooses among the models of all vendors.
OPENROUTER_DEFAULT = "openrouter/auto"
OLLAMA_PREFERRED = "llama3.2"

# A vendor's newest of these answers where no model is named: its quick and cheap ones, then any.
_ANTHROPIC_PREFERRED = re.compile(r"^claude-haiku-")
_GEMINI_PREFERRED = re.compile(r"^gemini-[\d.]+-flash$")
_NUMBER = re.compile(r"\d+")
# Names that are their vendor's, whether it lists its models just now or not.
_OWN_MODELS = {
    OPENAI: re.compile(r"^(gpt-|chatgpt-|o\d|text-embedding-)"),
    ANTHROPIC: re.compile(r"^claude-"),
    GEMINI: re.compile(r"^gemini-"),
}
# Who is asked first for a bare id, and for a default.
_PRECEDENCE = (OPENAI, AZURE, ANTHROPIC, GEMINI, OPENROUTER, COMPATIBLE, OLLAMA, EXTRACTIVE)
_EMBEDDING_MODEL = re.compile(r"embed|minilm|bge|\be5\b|gte", re.IGNORECASE)


def timeouts_of(settings: Settings) -> Timeouts:
    return Timeouts(
        connect_s=settings.model_connect_timeout_s,
        first_content_s=settings.model_first_content_timeout_s,
        idle_s=settings.model_idle_timeout_s,
        total_s=settings.model_total_timeout_s,
    )


def _open_openai(settings: Settings) -> LLMProvider | None:
    api_key = settings.openai_api_key.get_secret_value()
    if not api_key:
        return None
    return OpenAIProvider(
        api_key=api_key,
        base_url=settings.openai_base_url,
        timeouts=timeouts_of(settings),
        vocabularies=Vocabularies(settings.tiktoken_cache_dir),
    )


def _open_azure(settings: Settings) -> LLMProvider | None:
    api_key = settings.azure_openai_api_key.get_secret_value()
    if not (api_key and settings.azure_openai_endpoint):
        return None
    return AzureProvider(
        endpoint=settings.azure_openai_endpoint,
        api_key=api_key,
        api_version=settings.azure_openai_api_version,
        deployments=settings.azure_deployments,
        timeouts=timeouts_of(settings),
        vocabularies=Vocabularies(settings.tiktoken_cache_dir),
    )


def _open_compatible(settings: Settings) -> LLMProvider | None:
    if not settings.compatible_base_url:
        return None
    return CompatibleProvider(
        api_key=settings.compatible_api_key.get_secret_value(),
        base_url=settings.compatible_base_url,
        timeouts=timeouts_of(settings),
    )


def _open_openrouter(settings: Settings) -> LLMProvider | None:
    api_key = settings.openrouter_api_key.get_secret_value()
    if not api_key:
        return None
    return OpenRouterProvider(
        api_key=api_key,
        base_url=settings.openrouter_base_url,
        data_collection=settings.openrouter_data_collection,
        timeouts=timeouts_of(settings),
        vocabularies=Vocabularies(settings.tiktoken_cache_dir),
    )


def _open_anthropic(settings: Settings) -> LLMProvider | None:
    if not _can_import_sdk(ANTHROPIC, settings):
        return None
    from app.llm.providers.anthropic import AnthropicProvider  # noqa: PLC0415  # imports the SDK

    return AnthropicProvider(
        api_key=settings.anthropic_api_key.get_secret_value(),
        base_url=settings.anthropic_base_url,
        timeouts=timeouts_of(settings),
    )


def _open_gemini(settings: Settings) -> LLMProvider | None:
    if not _can_import_sdk(GEMINI, settings):
        return None
    from app.llm.providers.gemini import GeminiProvider  # noqa: PLC0415  # imports the SDK

    return GeminiProvider(
        api_key=settings.gemini_api_key.get_secret_value(),
        base_url=settings.gemini_base_url,
        timeouts=timeouts_of(settings),
    )


def _open_ollama(settings: Settings) -> LLMProvider | None:
    if not settings.ollama_base_url:
        return None
    return OllamaProvider(base_url=settings.ollama_base_url, timeouts=timeouts_of(settings))


def _open_extractive(_settings: Settings) -> LLMProvider | None:
    return ExtractiveProvider()


def _embed_with_openai(settings: Settings, model: str) -> EmbeddingProvider:
    return OpenAIEmbedding(
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.openai_base_url,
        model=model,
        timeouts=timeouts_of(settings),
    )


def _embed_with_azure(settings: Settings, model: str) -> EmbeddingProvider:
    return AzureEmbedding(
        endpoint=settings.azure_openai_endpoint,
        api_key=settings.azure_openai_api_key.get_secret_value(),
        api_version=settings.azure_openai_api_version,
        deployment=model,
        timeouts=timeouts_of(settings),
    )


def _embed_with_compatible(settings: Settings, model: str) -> EmbeddingProvider:
    return CompatibleEmbedding(
        api_key=settings.compatible_api_key.get_secret_value(),
        base_url=settings.compatible_base_url,
        model=model,
        timeouts=timeouts_of(settings),
    )


def _embed_with_gemini(settings: Settings, model: str) -> EmbeddingProvider:
    from app.llm.providers.gemini import GeminiEmbedding  # noqa: PLC0415  # imports the SDK

    return GeminiEmbedding(
        api_key=settings.gemini_api_key.get_secret_value(),
        base_url=settings.gemini_base_url,
        model=model,
        timeouts=timeouts_of(settings),
    )


def _embed_with_ollama(settings: Settings, model: str) -> EmbeddingProvider:
    return OllamaEmbedding(
        base_url=settings.ollama_base_url, model=model, timeouts=timeouts_of(settings)
    )


def _embed_locally(settings: Settings, _model: str) -> EmbeddingProvider:
    return LocalEmbedding(settings.data_dir / "models")


# A factory returns None when the settings have no key or address for its vendor.
PROVIDERS: Mapping[str, Callable[[Settings], LLMProvider | None]] = {
    OPENAI: _open_openai,
    AZURE: _open_azure,
    COMPATIBLE: _open_compatible,
    OPENROUTER: _open_openrouter,
    ANTHROPIC: _open_anthropic,
    GEMINI: _open_gemini,
    OLLAMA: _open_ollama,
    EXTRACTIVE: _open_extractive,
}
EMBEDDINGS: Mapping[str, Callable[[Settings, str], EmbeddingProvider]] = {
    LOCAL: _embed_locally,
    OPENAI: _embed_with_openai,
    AZURE: _embed_with_azure,
    COMPATIBLE: _embed_with_compatible,
    GEMINI: _embed_with_gemini,
    OLLAMA: _embed_with_ollama,
}


class Models:
    """The configured chat providers by name, and embedding models.

    `embedding` is the one that EMBEDDING_MODEL names. Which one is in use, the database says.
    `default_model` is DEFAULT_MODEL: perhaps an alias, which only the router knows; "" chooses.
    """

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, LLMProvider],
        embedding: EmbeddingProvider,
    ) -> None:
        self.embedding = embedding
        self._settings = settings
        self._embeddings = {(embedding.name, embedding.model): embedding}
        self.default_model = settings.default_model
        self._needed = {settings.default_model.partition("/")[0], embedding.name}
        self._providers = providers
        self._lists = {name: ModelList(provider) for name, provider in providers.items()}
        # By provider: what answered where no model was named.
        self._defaults: dict[str, str] = {}

    async def resolve(
        self, model_id: str | None, *, allowed: frozenset[str] | None = None
    ) -> tuple[LLMProvider, str]:
        """Return the provider and its own name of a model; None is the default.

        A bare id that several providers have is OpenAI's first, or the first that is `allowed`
        (None is all). Raises NotFound (`model_not_found`). Whether a vendor has a prefixed model
        shows in the call. May wait 5 s for the first list of a vendor's models, later 1 s at most
        every 30 s.
        """
        model_id = model_id or self.default_model
        if not model_id:
            return await self._automatic()
        prefix, slash, model = model_id.partition("/")
        if slash and model and prefix in PROVIDERS:
            if prefix not in self._providers:
                raise model_not_found(model_id, f"the provider {prefix} is not configured here")
            # Its own ids have a vendor's name in front, also those of its routers.
            is_router = prefix == OPENROUTER and "/" not in model
            return self._providers[prefix], model_id if is_router else model
        names = self._owners_of(model_id)
        if not names or _first_allowed(names, model_id, allowed) is None:
            names += await self._listers_of(model_id)
        if not names:
            raise model_not_found(model_id)
        return self._providers[_first_allowed(names, model_id, allowed) or names[0]], model_id

    async def list_models(self) -> list[str]:
        """Return the ids of all models that the providers list, as `provider/model`, sorted."""
        listed = await asyncio.gather(*(models.names() for models in self._lists.values()))
        return sorted(
            f"{name}/{model}"
            for name, models in zip(self._lists, listed, strict=True)
            for model in models
            if not _EMBEDDING_MODEL.search(model)
        )

    async def list_embedding_models(self) -> list[str]:
        """Return the ids of the embedding models: EMBEDDING_MODEL, the local one, and all that the
        providers list, OpenAI's first. Waits as `resolve` does."""
        names = [name for name in _PRECEDENCE if name in self._lists and name in EMBEDDINGS]
        listed = await asyncio.gather(*(self._lists[name].first_names() for name in names))
        found = [
            f"{name}/{model}"
            for name, models in zip(names, listed, strict=True)
            for model in sorted(models)
            if _EMBEDDING_MODEL.search(model)
        ]
        ours = [f"{self.embedding.name}/{self.embedding.model}", LOCAL_EMBEDDING_MODEL]
        return list(dict.fromkeys([*ours, *found]))

    async def find_embedding_models(self, model_id: str) -> list[str]:
        """Return the full ids that an id, with or without its provider, may stand for.

        The best first. As for a chat, one of Ollama's may lack its `:latest`.
        """
        found: list[str] = []
        for listed in await self.list_embedding_models():
            name, _, model = listed.partition("/")
            if model_id in (listed, model):
                found.append(listed)
            elif name == OLLAMA and f"{model_id}:latest" in (listed, model):
                found.append(listed.removesuffix(":latest"))
        return list(dict.fromkeys(found))

    async def status(self) -> dict[str, str]:
        """Return "ok", "unconfigured" or "unreachable" for each known provider. Waits 1 s at most.

        An Ollama that never answered and that no setting names counts as unconfigured.
        """
        await asyncio.gather(*(models.names() for models in self._lists.values()))
        states = dict.fromkeys(PROVIDERS, "unconfigured")
        for name, models in self._lists.items():
            is_missed = name != "ollama" or name in self._needed or models.was_reachable
            is_absent = models.state == "unreachable" and not is_missed
            states[name] = "unconfigured" if is_absent else models.state
        return states

    def find_provider(self, name: str) -> LLMProvider | None:
        """Return a provider that is configured."""
        return self._providers.get(name)

    def is_refused(self, name: str) -> bool:
        """Say whether the provider answered the last look, and did not take our credentials."""
        return name in self._lists and self._lists[name].state == "unconfigured"

    def open_embedding(self, provider: str, model: str) -> EmbeddingProvider:
        """Return an embedding model, always the same object for the same one. Sends nothing.

        Raises ProviderError (AUTH) where these settings lack what it takes: a key or an address.
        """
        opened = self._embeddings.get((provider, model))
        if opened is None:
            opened = _open_embedding(self._settings, f"{provider}/{model}")
            self._embeddings[provider, model] = opened
            self._needed.add(provider)
        return opened

    async def warm_up(self, embedding: EmbeddingProvider | None = None) -> None:
        """Load the local model, look for Ollama and at the default model, for the first question.

        `embedding` is the model in use, if that is not the configured one. A failure is logged: the
        first use will meet it again and report it to its caller.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for models in self._lists.values():
                    group.create_task(models.names())
                group.create_task(self._warm_up_default_model())
                embedding = embedding or self.embedding
                if isinstance(embedding, LocalEmbedding):
                    group.create_task(embedding.warm_up())
        except* ProviderError as failures:
            log.error("embedding_unusable", reasons=[str(error) for error in failures.exceptions])

    async def aclose(self) -> None:
        """End the background looks and close what `open_embedding` opened.

        What came in from outside is closed by who opened it.
        """
        for models in self._lists.values():
            await models.aclose()
        for embedding in self._embeddings.values():
            if embedding is not self.embedding:
                await embedding.aclose()

    async def _warm_up_default_model(self) -> None:
        try:
            provider, model = await self.resolve(None)
        except NotFound:
            return  # each question will say so
        await provider.context_window(model)
        await provider.tokenizer(model)

    async def _automatic(self) -> tuple[LLMProvider, str]:
        """Return the first provider that has a model to answer with, and that."""
        for name in _PRECEDENCE:
            if name in self._providers and (model := await self._preferred(name)):
                return self._providers[name], model
        return self._providers[EXTRACTIVE], EXTRACTIVE

    async def _preferred(self, name: str) -> str | None:
        """Return what a provider answers with where no model is named; embedding models can't."""
        if name in _FIXED_DEFAULTS:
            return _FIXED_DEFAULTS[name]
        listed = await self._lists[name].first_names()
        models = [model for model in listed if not _EMBEDDING_MODEL.search(model)]
        if name in (ANTHROPIC, GEMINI):
            wanted = _ANTHROPIC_PREFERRED if name == ANTHROPIC else _GEMINI_PREFERRED
            preferred = [model for model in models if wanted.search(model)]
            if chosen := max(preferred, key=_version, default=None) or next(iter(models), None):
                self._defaults[name] = chosen
            # A vendor that is away for a moment is no reason to answer without a model.
            return self._defaults.get(name)
        preferred = [model for model in models if model.startswith(OLLAMA_PREFERRED)]
        return next(iter(preferred if name == OLLAMA and preferred else models), None)

    def _owners_of(self, model: str) -> list[str]:
        """Return the provider whose a bare id is by its name, without a look; or none."""
        if model == EXTRACTIVE:
            return [EXTRACTIVE]
        return [
            name
            for name, own in _OWN_MODELS.items()
            if name in self._providers and own.match(model)
        ]

    async def _listers_of(self, model: str) -> list[str]:
        """Return the providers that list a bare id, the first to ask first."""
        names = [name for name in _PRECEDENCE if name in self._lists]
        listed = await asyncio.gather(*(self._lists[name].first_names() for name in names))
        return [
            name
            for name, models in zip(names, listed, strict=True)
            if model in models or (name == OLLAMA and f"{model}:latest" in models)
        ]


# These need no look at what there is.
_FIXED_DEFAULTS = {
    OPENAI: OPENAI_DEFAULT,
    OPENROUTER: OPENROUTER_DEFAULT,
    EXTRACTIVE: EXTRACTIVE,
}


def _version(model: str) -> list[int]:
    """Return the numbers in a name, to find the newest: Anthropic's end in a date."""
    return [int(number) for number in _NUMBER.findall(model)]


def _first_allowed(names: Sequence[str], model: str, allowed: frozenset[str] | None) -> str | None:
    return next((name for name in names if may_use(f"{name}/{model}", allowed)), None)


@asynccontextmanager
async def open_models(settings: Settings) -> AsyncIterator[Models]:
    """Open every configured provider. Sends nothing and loads no model: see `Models.warm_up`.

    Raises ModelsMisconfigured when the models that the settings name can't work with them.
    """
    check_models(settings)
    # In a thread, and now: in the first request it would hold up all others for a second.
    await asyncio.to_thread(_import_sdks, settings)
    async with AsyncExitStack() as stack:
        embedding = _open_embedding(settings, settings.embedding_model)
        stack.push_async_callback(embedding.aclose)
        providers: dict[str, LLMProvider] = {}
        for name, open_provider in PROVIDERS.items():
            provider = open_provider(settings)
            if provider is None:
                continue
            stack.push_async_callback(provider.aclose)
            providers[name] = provider
        _warn_of_absent(settings, providers)
        models = Models(settings, providers, embedding)
        stack.push_async_callback(models.aclose)
        yield models


# Modules that import an SDK which is no part of every installation.
_SDK_MODULES = {
    ANTHROPIC: "app.llm.providers.anthropic",
    GEMINI: "app.llm.providers.gemini",
}


def _has_key(name: str, settings: Settings) -> bool:
    keys = {ANTHROPIC: settings.anthropic_api_key, GEMINI: settings.gemini_api_key}
    return bool(keys[name].get_secret_value())


def _can_import_sdk(name: str, settings: Settings) -> bool:
    """Say whether an optional provider has its key and its package."""
    return _has_key(name, settings) and not find_missing_package(name)


def _import_sdks(settings: Settings) -> None:
    for name, module in _SDK_MODULES.items():
        if _can_import_sdk(name, settings):
            import_module(module)


def _warn_of_absent(settings: Settings, providers: Mapping[str, LLMProvider]) -> None:
    """Log which providers are left out, and those that have a key but no package one by one."""
    absent = [name for name in PROVIDERS if name not in providers]
    for name in absent:
        if name in _SDK_MODULES and _has_key(name, settings):
            remedy = f"pip install {find_missing_package(name)}"
            log.warning("provider_package_missing", provider=name, remedy=remedy)
    if absent:
        log.warning("providers_unconfigured", providers=absent)


def _open_embedding(settings: Settings, model_id: str) -> EmbeddingProvider:
    name, _, model = model_id.partition("/")
    try:
        check_embedding_model(settings.model_copy(update={"embedding_model": model_id}))
    except ModelsMisconfigured as exc:
        raise ProviderError(
            f"The embedding model {model_id} can't be used with these settings: "
            "its provider has no key or address here, or there is no such model.",
            kind=ProviderErrorKind.AUTH,
            provider=name,
        ) from exc
    return EMBEDDINGS[name](settings, model)


def model_not_found(model_id: str, reason: str = "no configured provider has it") -> NotFound:
    return NotFound(
        f"The model {model_id} is not available: {reason}.", code="model_not_found", param="model"
    )
