"""An Embedder for each embedding model in use: made when it is first asked for, and kept."""

from redis.asyncio import Redis

from app.llm.base import EmbeddingProvider
from app.llm.embedder import Embedder, RetryPolicy
from app.llm.registry import Models

# Whoever fills vectors in comes back by himself: he holds no worker up while a provider is away.
FILL_RETRIES = RetryPolicy(attempts=2, garbage_attempts=2, max_retry_after_s=2.0, deadline_s=10.0)


class Embedders:
    """Embedders by provider and model."""

    def __init__(self, models: Models, redis: Redis | None, *, cache_ttl_s: int = 0) -> None:
        self._models = models
        self._redis = redis
        self._cache_ttl_s = cache_ttl_s
        self._embedders: dict[tuple[str, str], Embedder] = {}
        self._fillers: dict[tuple[str, str], Embedder] = {}

    @property
    def configured(self) -> EmbeddingProvider:
        """The model that EMBEDDING_MODEL names; in use as long as nothing has been embedded."""
        return self._models.embedding

    def get(self, provider: str, model: str) -> Embedder:
        """Return the embedder for queries and new documents. Raises ProviderError (AUTH)."""
        if (provider, model) not in self._embedders:
            self._embedders[provider, model] = Embedder(
                self._models.open_embedding(provider, model),
                self._redis,
                cache_ttl_s=self._cache_ttl_s,
            )
        return self._embedders[provider, model]

    def get_filler(self, provider: str, model: str) -> Embedder:
        """Return one of the same model that gives up early. Raises ProviderError (AUTH)."""
        if (provider, model) not in self._fillers:
            self._fillers[provider, model] = Embedder(
                self._models.open_embedding(provider, model),
                self._redis,
                document_retries=FILL_RETRIES,
            )
        return self._fillers[provider, model]
