"""Azure OpenAI: OpenAI's models under the names of one's own deployments.

Name a chat deployment after its model (`gpt-4.1-mini`, `o3-prod`): its window, its tokenizer and
whether it takes a temperature are told from the name, as Azure does not tell them.
"""

from collections.abc import Sequence

import openai

from app.llm.base import Timeouts
from app.llm.model_names import AZURE
from app.llm.providers.openai import (
    OPENAI_MAX_INPUT_TOKENS,
    Dialect,
    OpenAIEmbedding,
    OpenAIProvider,
    isolate,
    open_http_client,
)
from app.llm.vocabularies import Vocabularies

AZURE_DIALECT = Dialect(
    "max_completion_tokens",
    "base64",
    needs_done=True,
    has_obfuscation=False,
    has_own_models=False,
)


class AzureProvider(OpenAIProvider):
    """Chat with the deployments of one Azure OpenAI resource; they are its models."""

    name = AZURE

    def __init__(
        self,
        *,
        endpoint: str,
        api_key: str,
        api_version: str,
        deployments: Sequence[str],
        timeouts: Timeouts | None = None,
        vocabularies: Vocabularies | None = None,
    ) -> None:
        self._deployments = sorted(deployments)
        self._api_version = api_version
        super().__init__(
            api_key=api_key,
            base_url=endpoint,
            timeouts=timeouts,
            dialect=AZURE_DIALECT,
            vocabularies=vocabularies,
        )

    async def list_models(self) -> list[str]:
        """See LLMProvider; the deployments that were named. Sends nothing.

        Azure's own list is of all models that could be deployed.
        """
        return self._deployments

    def _open_client(self, api_key: str, base_url: str) -> openai.AsyncOpenAI:
        return open_client(base_url, api_key, self._api_version, self._timeouts)


class AzureEmbedding(OpenAIEmbedding):
    """One embedding deployment."""

    name = AZURE

    def __init__(
        self,
        *,
        endpoint: str,
        api_key: str,
        api_version: str,
        deployment: str,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._api_version = api_version
        super().__init__(
            api_key=api_key,
            base_url=endpoint,
            model=deployment,
            timeouts=timeouts,
            dialect=AZURE_DIALECT,
        )
        self.max_input_tokens = OPENAI_MAX_INPUT_TOKENS

    def _open_client(self, api_key: str, base_url: str) -> openai.AsyncOpenAI:
        return open_client(base_url, api_key, self._api_version, self._timeouts)


def open_client(
    endpoint: str, api_key: str, api_version: str, timeouts: Timeouts
) -> openai.AsyncAzureOpenAI:
    """Return a client that sends the key as `api-key`, and nothing of the environment."""
    client = openai.AsyncAzureOpenAI(
        azure_endpoint=endpoint,
        api_key=api_key,
        api_version=api_version,
        max_retries=0,
        timeout=None,
        http_client=open_http_client(timeouts),
    )
    isolate(client)
    return client
