"""Several models behind one question, as clients see it: fallback, aliases, what a key may use."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from app.accounts.operators import set_operator
from app.config import Settings
from app.core.sse import StreamTiming
from app.dependencies import get_stream_timing
from app.ingestion.pipeline import Ingester
from tests.conftest import ingest_all, serve
from tests.frames import answer_of, check_stream, parse_frames
from tests.openai_api import with_openai
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply
from tests.run_streams import begin, lines_of, read, state_of

CHAT = "/api/v1/chat/"
STREAM = "/api/v1/chat/stream"
COMPLETIONS = "/v1/chat/completions"
ALIASES = "/api/v1/admin/model-aliases"
HEALTH = "/health/providers"
ASK = "How many zebras does the zoo keep?"
DEFAULT = "openai/gpt-4.1-mini"
EXTRACTIVE_ID = "extractive/extractive"
DOWN = Reply(failure=Failure.STATUS, status=500)


@dataclass(frozen=True, slots=True)
class Installation:
    app: FastAPI
    client: httpx2.AsyncClient
    provider: ProviderServer


@pytest.fixture(scope="module")
async def installation(settings: Settings) -> AsyncIterator[Installation]:
    """With an OpenAI and an Ollama, which are both the stand-in."""
    async with ProviderServer() as provider:
        configured = with_openai(
            settings,
            provider,
            ollama_base_url=provider.url,
            model_first_content_timeout_s=0.5,
        )
        async with serve(configured) as (app, client):
            await client.get("/health/ready")  # has looked for models when it returns
            yield Installation(app, client, provider)


@pytest.fixture
def provider(installation: Installation) -> ProviderServer:
    found = installation.provider
    found.by_model.clear()
    return found


@pytest.fixture(scope="module")
async def zoo(client: httpx2.AsyncClient, installation: Installation, ingester: Ingester) -> Person:
    await register(client, f"first-{uuid4().hex}@example.com")  # who may be made an operator
    person = await register(client, f"zoo-{uuid4().hex}@example.com")
    await person.upload("zoo.txt", b"The zoo keeps seven zebras, twelve giraffes and one lion.")
    await ingest_all(ingester)
    return replace(person, client=installation.client)


@pytest.fixture
async def operator(installation: Installation, database_url: str) -> AsyncIterator[Person]:
    """Leaves no alias behind: they are the deployment's."""
    person = await register(installation.client, f"operator-{uuid4().hex}@example.com")
    assert await set_operator(database_url, person.email, is_operator=True)
    yield person
    while aliases := (await person.get(ALIASES)).json()["aliases"]:
        for alias in aliases:
            await person.delete(f"{ALIASES}/{alias['name']}")


def question(**options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": ASK}], **options}


async def put_alias(operator: Person, name: str, **body: Any) -> httpx2.Response:
    return await operator.client.put(f"{ALIASES}/{name}", json=body, headers=operator.headers)


def route_of(response: httpx2.Response) -> tuple[str | None, ...]:
    names = ("Provider", "Model", "Fallbacks")
    return tuple(response.headers.get(f"X-Footnote-{name}") for name in names)


# Fallback


@pytest.mark.parametrize("status", [401, 429, 500, 404])
async def test_without_a_model_named_quotes_answer_when_the_default_fails(
    zoo: Person, provider: ProviderServer, status: int
) -> None:
    provider.by_model["gpt-4.1-mini"] = Reply(failure=Failure.STATUS, status=status)
    response = await zoo.post(CHAT, json=question())
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["degraded"] is True
    assert "seven zebras" in body["response"]
    assert body["citations"][0]["verified"] is True
    assert body["model"] == EXTRACTIVE_ID
    assert body["metadata"]["estimated_cost_usd"] == 0
    assert route_of(response) == ("extractive", EXTRACTIVE_ID, "1")


async def test_who_answers_is_in_the_headers(zoo: Person, provider: ProviderServer) -> None:
    for path in (CHAT, STREAM):
        response = await zoo.post(path, json=question(model="ollama/llama3.2"))
        assert route_of(response) == ("ollama", "ollama/llama3.2", "0"), path
    response = await zoo.post(COMPLETIONS, json=question(model="llama3.2"))
    assert route_of(response) == ("ollama", "ollama/llama3.2", "0")
    odd = await zoo.post(CHAT, json=question(model="ollama/ñ\r\nX-Evil: 1"))
    assert odd.status_code == 200, odd.text
    assert odd.headers["X-Footnote-Model"] == "ollama/%C3%B1%0D%0AX-Evil:%201"


async def test_a_model_that_is_named_fails_as_itself(zoo: Person, provider: ProviderServer) -> None:
    provider.by_model["gpt-4.1-mini"] = DOWN
    for path in (CHAT, STREAM):
        response = await zoo.post(path, json=question(model=DEFAULT))
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "provider_overloaded"
    # And so does the default where there is nothing to quote from.
    response = await zoo.post(CHAT, json=question(use_rag=False))
    assert response.json()["error"]["code"] == "provider_overloaded"


async def test_a_stream_tells_of_the_one_that_answers(
    zoo: Person, provider: ProviderServer
) -> None:
    provider.by_model["gpt-4.1-mini"] = DOWN
    response = await zoo.post(STREAM, json=question())
    frames = parse_frames(response.text)
    assert "seven zebras" in check_stream(frames)  # with one start
    assert frames[0].data["model"] == EXTRACTIVE_ID
    done = frames[-1].data
    assert (done["provider"], done["attempts"], done["fallbacks"]) == ("extractive", 2, 1)
    assert done["degraded"] is True
    assert route_of(response) == ("extractive", EXTRACTIVE_ID, "1")


async def test_who_waited_too_long_to_hear_is_told_twice_where_it_starts(
    installation: Installation, zoo: Person, provider: ProviderServer
) -> None:
    provider.by_model["gpt-4.1-mini"] = Reply(failure=Failure.HANG)
    timing = StreamTiming(status_wait_s=0.05)
    installation.app.dependency_overrides[get_stream_timing] = lambda: timing
    try:
        response = await zoo.post(STREAM, json=question())
        completion = await zoo.post(
            COMPLETIONS, json={**question(), "model": DEFAULT, "stream": True}
        )
    finally:
        installation.app.dependency_overrides.clear()
    frames = parse_frames(response.text)
    assert [frame.id for frame in frames] == list(range(1, len(frames) + 1))
    starts = [frame.data["model"] for frame in frames if frame.type == "start"]
    assert starts == [DEFAULT, EXTRACTIVE_ID]
    assert [frame.type for frame in frames[:2]] == ["start", "start"]
    assert "seven zebras" in answer_of(frames)
    assert route_of(response) == (None, None, None)
    assert "provider_timeout" in completion.text


async def test_nothing_takes_over_after_the_first_word(
    zoo: Person, provider: ProviderServer
) -> None:
    provider.by_model["gpt-4.1-mini"] = Reply(
        text="one two three four", failure=Failure.CUT, chunk_delay_s=0.01
    )
    frames = parse_frames((await zoo.post(STREAM, json=question())).text)
    written = check_stream(frames, status="failed")
    assert written
    assert "one two three four".startswith(written)
    done = frames[-1].data
    assert (done["provider"], done["attempts"], done["fallbacks"]) == ("openai", 1, 0)
    response = await zoo.post(CHAT, json=question())
    assert response.json()["error"]["code"] == "provider_truncated"


async def test_a_run_that_changes_its_model_can_be_read_again(
    installation: Installation, zoo: Person, provider: ProviderServer
) -> None:
    provider.by_model["gpt-4.1-mini"] = Reply(failure=Failure.HANG)
    run = await begin(zoo, ASK, use_rag=True)
    live = await read(installation.client, run)
    assert [(frame.id, frame.data.get("model")) for frame in live[:2]] == [
        (1, DEFAULT),
        (2, EXTRACTIVE_ID),
    ]
    # From the database, and with what was there before: the second start is what counts.
    assert lines_of(await read(installation.client, run)) == lines_of(live)[1:]
    assert lines_of(await read(installation.client, run, after=1)) == lines_of(live)[1:]
    state = await state_of(zoo, run)
    assert (state["provider"], state["fallbacks"], state["degraded"]) == ("extractive", 1, True)
    told = await zoo.get(f"/api/v1/messages/{run['message_id']}/trace")
    trace = told.json()["trace"]
    tried = [(each["provider"], each["model"], each["outcome"]) for each in trace["attempts"]]
    assert tried == [
        ("openai", DEFAULT, "provider_timeout"),
        ("extractive", EXTRACTIVE_ID, "completed"),
    ]
    assert trace["attempts"][0]["ms"] >= 400
    assert len(trace["sources"]) == len(live[1].data["sources"])


async def test_an_answer_that_is_kept_has_the_headers_too(
    zoo: Person, provider: ProviderServer
) -> None:
    provider.by_model["gpt-4.1-mini"] = DOWN
    key = {"Idempotency-Key": uuid4().hex}
    for _ in range(2):
        response = await zoo.client.post(CHAT, json=question(), headers=zoo.headers | key)
        assert route_of(response) == ("extractive", EXTRACTIVE_ID, "1")
    created = await zoo.post("/api/v1/chat/runs", json=question(model="ollama/llama3.2"))
    assert route_of(created)[:2] == ("ollama", "ollama/llama3.2")


async def test_a_model_that_keeps_failing_is_not_asked(
    zoo: Person, provider: ProviderServer
) -> None:
    provider.by_model["gpt-4.1-mini"] = DOWN
    for _ in range(5):
        await zoo.post(CHAT, json=question(model=DEFAULT))
    calls = len(provider.calls)
    for path in (CHAT, STREAM):
        response = await zoo.post(path, json=question(model=DEFAULT))
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "no_provider_available"
        assert 1 <= int(response.headers["Retry-After"]) <= 5
    response = await zoo.post(CHAT, json=question())
    assert response.json()["degraded"] is True
    assert len(provider.calls) == calls


async def test_openai_clients_get_the_fallback_of_an_alias(
    zoo: Person, operator: Person, provider: ProviderServer
) -> None:
    provider.by_model["gpt-4.1-mini"] = DOWN
    targets = [{"model": DEFAULT}, {"model": "ollama/llama3.2"}]
    assert (await put_alias(operator, "fast", targets=targets)).status_code == 201
    response = await zoo.post(COMPLETIONS, json=question(model="fast"))
    assert response.status_code == 200, response.text
    assert response.json()["model"] == "ollama/llama3.2"
    assert route_of(response) == ("ollama", "ollama/llama3.2", "1")
    streamed = await zoo.post(COMPLETIONS, json={**question(), "model": "fast", "stream": True})
    assert streamed.text.count('"role"') == 1
    assert '"ollama/llama3.2"' in streamed.text
    assert DEFAULT not in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")


# Aliases


async def test_operators_write_aliases_and_everybody_uses_them(
    zoo: Person, operator: Person, provider: ProviderServer
) -> None:
    body = {
        "description": "The quick one.",
        "targets": [{"model": "ollama/llama3.2", "weight": 3}, {"model": DEFAULT, "weight": 0}],
        "allow_extractive": True,
    }
    created = await put_alias(operator, "fast", **body)
    assert (created.status_code, created.json()) == (201, {"name": "fast", **body})
    assert (await put_alias(operator, "fast", **body)).status_code == 200
    assert (await operator.get(f"{ALIASES}/fast")).json() == {"name": "fast", **body}
    assert (await operator.get(ALIASES)).json()["aliases"] == [{"name": "fast", **body}]

    answered = await zoo.post(CHAT, json=question(model="fast"))
    assert answered.json()["model"] == "fast"
    assert route_of(answered) == ("ollama", "ollama/llama3.2", "0")
    listed = (await zoo.get("/api/v1/models")).json()["models"]
    (alias,) = [model for model in listed if model["id"] == "fast"]
    assert alias["provider"] == "alias"
    assert alias["targets"] == ["ollama/llama3.2", DEFAULT]
    assert alias["state"] == "ok"
    assert alias["context_window"] == 131_072  # the smaller one's
    assert "fast" in {model["id"] for model in (await zoo.get("/v1/models")).json()["data"]}

    assert (await operator.delete(f"{ALIASES}/fast")).status_code == 204
    assert (await operator.get(f"{ALIASES}/fast")).status_code == 404
    assert (await operator.delete(f"{ALIASES}/fast")).status_code == 404
    assert (await zoo.post(CHAT, json=question(model="fast"))).status_code == 404


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("fast", {"targets": []}, 422),
        ("fast", {}, 422),
        ("fast", {"targets": [{"model": DEFAULT, "weight": -1}]}, 422),
        ("fast", {"targets": [{"model": DEFAULT}], "nonsense": 1}, 422),
        ("fast", {"targets": [{"model": DEFAULT}] * 17}, 422),
        ("fast", {"targets": [{"model": "gpt-4.1"}]}, 400),
        ("fast", {"targets": [{"model": "nobody/x"}]}, 400),
        ("fast", {"targets": [{"model": "fast"}]}, 400),
        ("openai", {"targets": [{"model": DEFAULT}]}, 400),
        ("FAST", {"targets": [{"model": DEFAULT}]}, 400),
    ],
)
async def test_a_wrong_alias_is_refused(
    operator: Person, name: str, body: dict[str, Any], status: int
) -> None:
    response = await put_alias(operator, name, **body)
    assert response.status_code == status, response.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_aliases_are_for_operators(zoo: Person, method: str) -> None:
    body = {"targets": [{"model": DEFAULT}]} if method == "PUT" else None
    response = await zoo.client.request(method, f"{ALIASES}/fast", headers=zoo.headers, json=body)
    assert response.status_code == 403
    assert (await zoo.get(ALIASES)).status_code == 403


async def test_a_question_goes_to_the_target_whose_window_it_fits(
    settings: Settings, operator: Person, zoo: Person
) -> None:
    async with ProviderServer() as provider:
        provider.openai_models = ("small", "large")
        provider.openai_fields = {
            "small": {"context_length": 600},
            "large": {"context_length": 60_000},
        }
        configured = with_openai(settings, provider)
        targets = [{"model": "openai/small"}, {"model": "openai/large"}]
        await put_alias(operator, "both", targets=targets)
        await put_alias(operator, "tiny", targets=targets[:1], allow_extractive=True)
        async with serve(configured) as (_, client):
            asker = replace(zoo, client=client)
            long = {"messages": [{"content": "zebra " * 1500}]}
            response = await asker.post(CHAT, json={**long, "model": "both"})
            assert route_of(response) == ("openai", "openai/large", "0"), response.text
            # Quotes are for when models fail, not for what is too long.
            response = await asker.post(CHAT, json={**long, "model": "tiny"})
            assert response.status_code == 400
            assert response.json()["error"]["code"] == "context_length_exceeded"


# What a key may use


async def test_a_key_uses_and_sees_its_models_alone(
    zoo: Person, operator: Person, provider: ProviderServer
) -> None:
    await put_alias(operator, "fast", targets=[{"model": DEFAULT}])
    await put_alias(operator, "other", targets=[{"model": "ollama/llama3.2"}])
    made = await zoo.post(
        "/api/v1/api-keys",
        json={
            "name": "narrow",
            "scope": "write",
            "allowed_models": ["fast", "ollama/qwen3:8b"],
        },
    )
    assert made.status_code == 201, made.text
    headers = {"X-API-Key": made.json()["key"]}

    async def ask(model: str | None, path: str = CHAT) -> httpx2.Response:
        body = question() | ({} if model is None else {"model": model})
        return await zoo.client.post(path, json=body, headers=headers)

    assert (await ask("fast")).status_code == 200
    assert (await ask("qwen3:8b")).status_code == 200
    assert (await ask("fast", COMPLETIONS)).status_code == 200
    unknown = (await ask("no-such-model")).json()["error"]
    for model in ("other", DEFAULT, "llama3.2", "extractive"):
        for path in (CHAT, STREAM, "/api/v1/chat/runs", COMPLETIONS):
            refused = await ask(model, path)
            assert refused.status_code == 404, (model, path)
            error = refused.json()["error"]
            assert error["code"] == "model_not_found"
            assert error["message"] == unknown["message"].replace("no-such-model", model)
    # The default is not among them, and neither are quotes.
    assert (await ask(None)).status_code == 404
    for path, field in (("/api/v1/models", "models"), ("/v1/models", "data")):
        listed = (await zoo.client.get(path, headers=headers)).json()[field]
        assert {model["id"] for model in listed} == {"fast", "ollama/qwen3:8b"}
    health = (await zoo.client.get(HEALTH, headers=headers)).json()["providers"]
    assert {each["model"] for each in health if each["model"]} == {"gpt-4.1-mini"}


# How providers are


async def test_the_health_of_providers_is_for_who_may_read(
    zoo: Person, operator: Person, provider: ProviderServer
) -> None:
    assert (await zoo.client.get(HEALTH)).status_code == 401
    provider.by_model["gpt-4.1-mini"] = Reply(failure=Failure.STATUS, status=401)
    await zoo.post(CHAT, json=question())
    await zoo.post(CHAT, json=question(model="ollama/of-one-customer"))

    shown = {each["model"]: each for each in (await zoo.get(HEALTH)).json()["providers"]}
    default = shown["gpt-4.1-mini"]
    assert (default["provider"], default["state"]) == ("openai", "open")
    assert default["last_error"] == "auth"
    assert 0 < default["retry_in_s"] <= 300
    assert default["in_flight"] == 0
    assert shown["extractive"]["state"] == "ok"
    assert "of-one-customer" not in shown
    everything = (await operator.get(HEALTH)).json()["providers"]
    assert "of-one-customer" in {each["model"] for each in everything}
