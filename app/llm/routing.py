"""From what a question asks for to the models that may answer it, in the order of trying.

A model that is named answers alone. An alias stands for a chain, and so does no name: the default
model, and behind it quotes without a language model, where the question is about documents.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis

from app.config import Settings
from app.core.errors import NotFound, ProviderError, ProviderErrorKind, UnprocessableRequest
from app.core.text import clean_line
from app.llm.base import LLMProvider
from app.llm.breaker import (
    OUTAGES,
    Admission,
    BreakerPolicy,
    BreakerReport,
    CircuitBreaker,
)
from app.llm.model_aliases import Alias, AliasDirectory, Aliases, AliasTarget
from app.llm.model_names import CHAT_PROVIDERS, EXTRACTIVE, may_use
from app.llm.registry import Models, model_not_found

log = structlog.get_logger(__name__)

# The installation's settings are wrong, or its account: only an operator can change that.
HELD = frozenset(
    {ProviderErrorKind.AUTH, ProviderErrorKind.QUOTA, ProviderErrorKind.MODEL_NOT_FOUND}
)
HOLD_S = 300.0
PROBE_INTERVAL_S = 5.0
LONGEST_PROBE_INTERVAL_S = 60.0
# As long as a model may take to its first token.
PROBE_S = 30.0
CHAT_POLICY = BreakerPolicy(
    counted=OUTAGES | {ProviderErrorKind.PROTOCOL},
    held=HELD,
    hold_s=HOLD_S,
    longest_interval_s=LONGEST_PROBE_INTERVAL_S,
    probe_s=PROBE_S,
)
# So long a breaker that knew of no failure is not asked again: under load that spares most looks.
_CLEAN_S = 0.25
# Requests name the models, so that there may be any number of them.
_MAX_DEPLOYMENTS = 256

_RANDOM = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer. `model` is the vendor's own id."""

    provider: LLMProvider
    model: str

    @property
    def model_id(self) -> str:
        return f"{self.provider.name}/{self.model}"

    @property
    def is_extractive(self) -> bool:
        return self.provider.name == EXTRACTIVE


Chain = tuple[Candidate, ...]


class Deployment:
    """A model as this process calls it, with the breaker that all processes share."""

    def __init__(self, provider: str, model: str, breaker: CircuitBreaker | None) -> None:
        self.provider = provider
        self.model = model
        self.in_flight = 0
        self._breaker = breaker
        self._clean_until = 0.0
        # Who asks at once shares one look, and one connection.
        self._asking = asyncio.Lock()

    async def ask(self) -> Admission:
        """Ask for leave to call. A probe must be followed by one of the reports, or `release`."""
        if self._breaker is None or time.monotonic() < self._clean_until:
            return Admission()
        async with self._asking:
            if time.monotonic() < self._clean_until:
                return Admission()
            admission = await self._breaker.ask()
            if admission.is_clean:
                self._clean_until = time.monotonic() + _CLEAN_S
            return admission

    async def report_success(self, admission: Admission) -> None:
        if self._breaker is not None and not admission.is_clean:
            await self._breaker.report_success()

    async def report_failure(self, error: ProviderError) -> None:
        self._clean_until = 0.0
        if self._breaker is not None:
            await self._breaker.report_failure(error)

    async def release(self, admission: Admission) -> None:
        if self._breaker is not None and admission.is_probe:
            await self._breaker.release()

    async def look(self) -> BreakerReport:
        return BreakerReport() if self._breaker is None else await self._breaker.look()


class Deployments:
    """The deployments that were asked lately. Without `redis` nothing is known to fail.

    What is known of one ends with its settings: another key or address is another deployment.
    """

    def __init__(self, settings: Settings, redis: Redis | None) -> None:
        self._settings = settings
        self._redis = redis
        self._known: dict[str, Deployment] = {}

    def get(self, candidate: Candidate) -> Deployment:
        known = self._known.get(candidate.model_id)
        if known is None:
            if len(self._known) >= _MAX_DEPLOYMENTS:
                self._forget_idle()
            known = self._known[candidate.model_id] = self._open(candidate)
        return known

    def list_known(self) -> list[Deployment]:
        """Return those that this process has asked, by id."""
        return [self._known[model_id] for model_id in sorted(self._known)]

    def _open(self, candidate: Candidate) -> Deployment:
        name, model = candidate.provider.name, candidate.model
        if self._redis is None or candidate.is_extractive:
            return Deployment(name, model, None)
        breaker = CircuitBreaker(
            self._redis,
            provider=name,
            model=model,
            probe_interval_s=PROBE_INTERVAL_S,
            policy=CHAT_POLICY,
            scope=_fingerprint(self._settings, name),
        )
        return Deployment(name, model, breaker)

    def _forget_idle(self) -> None:
        self._known = {id_: each for id_, each in self._known.items() if each.in_flight}


class ModelRouter:
    """Chooses the models for a question. `total_s` is what all that are asked may take together."""

    def __init__(
        self, models: Models, aliases: AliasDirectory, deployments: Deployments, *, total_s: float
    ) -> None:
        self.total_s = total_s
        self.models = models
        self.aliases = aliases
        self.deployments = deployments

    async def route(
        self,
        model_id: str | None,
        *,
        allowed: frozenset[str] | None = None,
        with_documents: bool = False,
    ) -> Chain:
        """Return who may answer, in the order of trying: at least one, none twice.

        `allowed` are the ids and aliases that the caller's API key may use; None is all. Raises
        NotFound (`model_not_found`); for what is not allowed in the same words whether it is there
        or not. May wait for servers to list their models, and raises what the database raises.
        """
        aliases = await self.aliases.find_all()
        if not model_id:
            return await self._route_default(aliases, allowed, with_documents=with_documents)
        alias = aliases.get(model_id)
        if alias is None:
            return (await self._find(model_id, allowed),)
        if not may_use(model_id, allowed):
            raise _not_allowed(model_id)
        chain = await self._expand(alias, aliases)
        if not chain:
            raise model_not_found(model_id)
        return self._with_extractive(chain) if alias.allow_extractive and with_documents else chain

    async def find_default(self, allowed: frozenset[str] | None = None) -> str | None:
        """Return the id, or the alias, that answers when no model is named; None for none."""
        name = self.models.default_model
        if name in await self.aliases.find_all():
            return name if may_use(name, allowed) else None
        try:
            found = Candidate(*await self.models.resolve(None)).model_id
        except NotFound:
            return None
        return found if may_use(found, allowed) else None

    async def name_in_full(self, name: str, *, allowed: frozenset[str] | None = None) -> str:
        """Return the alias, or the id with its provider, that an API key is allowed by a name.

        Also of a model to embed with. Raises UnprocessableRequest (`unknown_model`) for a name that
        no call could match. A provider that is known may be configured later.
        """
        if name in await self.aliases.find_all():
            return name
        provider, slash, model = name.partition("/")
        if slash and provider in CHAT_PROVIDERS and (not model or "*" in model):
            raise _unknown_model(name, "Name each model, or an alias")
        try:
            return Candidate(*await self.models.resolve(name, allowed=allowed)).model_id
        except NotFound:
            if slash and provider in CHAT_PROVIDERS:
                return name
        embedding = await self.models.find_embedding_models(name)
        if not embedding:
            raise _unknown_model(name, "Name it as GET /v1/models does, provider/model")
        return next((each for each in embedding if may_use(each, allowed)), embedding[0])

    async def _route_default(
        self, aliases: Aliases, allowed: frozenset[str] | None, *, with_documents: bool
    ) -> Chain:
        name = self.models.default_model
        title = name or "that is the default"
        chain: Chain = ()
        error = model_not_found(title)
        if alias := aliases.get(name):
            is_allowed = may_use(name, allowed)
            chain = await self._expand(alias, aliases) if is_allowed else ()
        else:
            try:
                candidate = Candidate(*await self.models.resolve(None))
                is_allowed = may_use(candidate.model_id, allowed)
                chain = (candidate,) if is_allowed else ()
            except NotFound as exc:
                log.warning("default_model_unavailable")
                is_allowed, error = True, exc
        if not is_allowed:
            error = _not_allowed(title, "; name one that it may use")
        if with_documents and may_use(f"{EXTRACTIVE}/{EXTRACTIVE}", allowed):
            chain = self._with_extractive(chain)
        if not chain:
            raise error
        return chain

    async def _find(self, model_id: str, allowed: frozenset[str] | None) -> Candidate:
        try:
            candidate = Candidate(*await self.models.resolve(model_id, allowed=allowed))
        except NotFound:
            if may_use(model_id, allowed):
                raise
            raise _not_allowed(model_id) from None
        if not may_use(candidate.model_id, allowed):
            raise _not_allowed(model_id)
        return candidate

    async def _expand(self, alias: Alias, aliases: Aliases) -> Chain:
        """Return what an alias stands for just now; a target that is not to be had is left out."""
        found: dict[str, Candidate] = {}
        expanded: set[str] = set()

        async def add(one: Alias) -> None:
            expanded.add(one.name)
            for target in draw_order(one.targets):
                inner = aliases.get(target.model)
                if inner is None:
                    try:
                        candidate = Candidate(*await self.models.resolve(target.model))
                    except NotFound:
                        continue
                    found.setdefault(candidate.model_id, candidate)
                elif inner.name not in expanded:
                    await add(inner)

        await add(alias)
        return tuple(found.values())

    def _with_extractive(self, chain: Chain) -> Chain:
        provider = self.models.find_provider(EXTRACTIVE)
        if provider is None or any(candidate.is_extractive for candidate in chain):
            return chain
        return (*chain, Candidate(provider, EXTRACTIVE))


def draw_order(targets: Sequence[AliasTarget]) -> list[AliasTarget]:
    """Return those with a weight in a random order, then the others as they are.

    Each weighted one is first with the chance of its share in the weights.
    """
    # An exponential clock of each one's rate: the first to ring is drawn by weight, and so on.
    drawn = sorted(
        (target for target in targets if target.weight > 0),
        key=lambda target: _RANDOM.expovariate(target.weight),
    )
    return [*drawn, *(target for target in targets if target.weight <= 0)]


def _not_allowed(model_id: str, remedy: str = "") -> NotFound:
    return model_not_found(model_id, f"this API key may not use it{remedy}")


def _unknown_model(name: str, remedy: str) -> UnprocessableRequest:
    return UnprocessableRequest(
        f"allowed_models: there is no model {clean_line(name)} here. {remedy}.",
        code="unknown_model",
        param="allowed_models",
    )


def _fingerprint(settings: Settings, provider: str) -> str:
    """Return what tells the settings of a provider from others, and tells nothing of them."""
    values = [
        (name, value.get_secret_value() if hasattr(value, "get_secret_value") else str(value))
        for name, value in settings
        if name.startswith(f"{provider}_")
    ]
    return hashlib.sha256(f"{settings.signing_key}{values}".encode()).hexdigest()[:16]
