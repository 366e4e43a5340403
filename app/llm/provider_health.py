"""How the deployments of models are doing: what the breakers know, and who is reachable."""

from dataclasses import dataclass

from app.core.errors import NotFound
from app.llm.breaker import BreakerState
from app.llm.routing import Candidate, Deployment, ModelRouter

_OK = "ok"


@dataclass(frozen=True, slots=True)
class DeploymentHealth:
    """`model` is None for a provider of which no model is in use.

    `state`: ok, open (calls are held back for `retry_in_s`), half_open (one call tries it),
    unconfigured or unreachable. `last_error` is the kind of the last failure that counts, as long
    as it is remembered. `in_flight` are calls of this process.
    """

    provider: str
    model: str | None
    state: str
    last_error: str | None = None
    retry_in_s: float | None = None
    in_flight: int = 0


async def read_health(
    router: ModelRouter, *, allowed: frozenset[str] | None = None, shows_all: bool = False
) -> list[DeploymentHealth]:
    """Return the deployments in use, by provider and model, and the providers without one.

    In use are the default model, the targets of aliases, and with `shows_all` whatever was asked
    lately: callers name models that are nobody else's business.
    """
    states = await router.models.status()
    found: dict[str, Deployment] = {}
    for candidate in await _candidates_in_use(router, allowed):
        found[candidate.model_id] = router.deployments.get(candidate)
    if shows_all:
        found |= {f"{each.provider}/{each.model}": each for each in router.deployments.list_known()}
    health = [
        await _look(each, states.get(each.provider, "unconfigured")) for each in found.values()
    ]
    used = {each.provider for each in health}
    health += [
        DeploymentHealth(name, None, state) for name, state in states.items() if name not in used
    ]
    return sorted(health, key=lambda each: (each.provider, each.model or ""))


async def _candidates_in_use(
    router: ModelRouter, allowed: frozenset[str] | None
) -> list[Candidate]:
    aliases = await router.aliases.find_all()
    names: list[str | None] = [None, *aliases]
    candidates: list[Candidate] = []
    for name in names:
        try:
            candidates += await router.route(name, allowed=allowed, with_documents=True)
        except NotFound:
            continue
    return candidates


async def _look(deployment: Deployment, provider_state: str) -> DeploymentHealth:
    report = await deployment.look()
    is_closed = report.state is BreakerState.CLOSED
    is_there = provider_state == _OK
    return DeploymentHealth(
        provider=deployment.provider,
        model=deployment.model,
        state=provider_state if not is_there else _OK if is_closed else report.state.value,
        last_error=None if report.kind is None else report.kind.value,
        retry_in_s=None if is_closed else round(report.wait_s, 3),
        in_flight=deployment.in_flight,
    )
