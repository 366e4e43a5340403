"""OpenRouter: models of many vendors behind OpenAI's API, each call with what it cost.

Its keep-alive comments are not chunks, so that they move no deadline. An error in the middle of a
stream is a chunk with `error`; the chunk with the usage repeats the last choice.
"""

from typing import Literal

import openai

from app.llm.base import Timeouts
from app.llm.model_names import OPENROUTER
from app.llm.providers.openai import Dialect, IsolatedClient, OpenAIProvider, isolate
from app.llm.vocabularies import Vocabularies

APP_TITLE = "Footnote"


class OpenRouterProvider(OpenAIProvider):
    """Chat over OpenRouter. With "deny" it chooses no vendor that keeps prompts for training."""

    name = OPENROUTER

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        data_collection: Literal["deny", "allow"] = "deny",
        timeouts: Timeouts | None = None,
        vocabularies: Vocabularies | None = None,
    ) -> None:
        super().__init__(
            api_key=api_key,
            base_url=base_url,
            timeouts=timeouts,
            dialect=Dialect(
                "max_tokens",
                "float",
                needs_done=False,
                has_obfuscation=False,
                has_own_models=True,
                has_cost=True,
                extra_body={"provider": {"data_collection": data_collection}},
            ),
            vocabularies=vocabularies,
        )

    def _open_client(self, api_key: str, base_url: str) -> openai.AsyncOpenAI:
        client = IsolatedClient(api_key, base_url, self._timeouts)
        isolate(client, **{"X-OpenRouter-Title": APP_TITLE})
        return client
