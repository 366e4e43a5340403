"""Any server that speaks OpenAI's API, beside OpenAI itself: vLLM, LM Studio, llama.cpp, a proxy.

Its models go by the names that the server lists. A server may ask for no key.
"""

from app.llm.model_names import COMPATIBLE
from app.llm.providers.openai import OpenAIEmbedding, OpenAIProvider


class CompatibleProvider(OpenAIProvider):
    """Chat over `/chat/completions` of the server at COMPATIBLE_BASE_URL."""

    name = COMPATIBLE


class CompatibleEmbedding(OpenAIEmbedding):
    """One embedding model of the server at COMPATIBLE_BASE_URL."""

    name = COMPATIBLE
