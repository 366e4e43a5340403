"""Which providers can be named, and whether the settings name models that can work.

Apart from the registry, which imports every provider: the command line checks this first.
"""

from collections.abc import Sequence

from app.config import LOCAL_EMBEDDING_MODEL, Settings

OPENAI = "openai"
OLLAMA = "ollama"
EXTRACTIVE = "extractive"
LOCAL = "local"
CHAT_PROVIDERS = (OPENAI, OLLAMA, EXTRACTIVE)
EMBEDDING_PROVIDERS = (LOCAL, OPENAI, OLLAMA)


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
    if provider == OPENAI and not settings.openai_api_key.get_secret_value():
        raise ModelsMisconfigured(
            f"EMBEDDING_MODEL is {model_id}, but OPENAI_API_KEY is empty: "
            f"set the key, or EMBEDDING_MODEL={LOCAL_EMBEDDING_MODEL}"
        )
    if provider == OLLAMA and not settings.ollama_base_url:
        raise ModelsMisconfigured(f"EMBEDDING_MODEL is {model_id}, but OLLAMA_BASE_URL is empty")


def check_default_model(settings: Settings) -> None:
    """Raise ModelsMisconfigured if DEFAULT_MODEL names a provider that there is not."""
    _check_chat_model("DEFAULT_MODEL", settings.default_model)


def check_rerank_model(settings: Settings) -> None:
    """Raise ModelsMisconfigured if a reranker by chat model names a provider that there is not."""
    if settings.reranker == "llm":
        _check_chat_model("RERANK_MODEL", settings.rerank_model)


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
