"""The admin routes for embedding spaces, and the same from the command line."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.config import Settings
from app.ingestion import embedding_admin
from app.local.reembed import COMMANDS, run_reembed
from tests.people import Person, register
from tests.provider_server import Failure, Reply
from tests.rollouts import Deployment, deploy, execute, make_template

SPACES = "/api/v1/admin/embedding-spaces"


@pytest.fixture(scope="module")
async def template(database_url: str) -> AsyncIterator[str]:
    async with make_template(database_url) as name:
        yield name


@pytest.fixture
async def deployment(settings: Settings, template: str) -> AsyncIterator[Deployment]:
    async with deploy(settings, template) as deployed:
        yield deployed


@pytest.fixture
async def operator(deployment: Deployment) -> Person:
    person = await register(deployment.client, "operator@example.com")
    await execute(
        deployment.resources.settings.database_url,
        "UPDATE users SET is_operator = true WHERE email = 'operator@example.com'",
    )
    return person


async def spaces_by_role(operator: Person) -> dict[str, dict[str, Any]]:
    response = await operator.get(SPACES)
    assert response.status_code == 200, response.text
    return {space["role"]: space for space in response.json()["spaces"]}


async def test_who_does_not_operate_the_deployment_is_refused(deployment: Deployment) -> None:
    # Whoever is the first to register operates it.
    second = await register(deployment.client, "second@example.com")
    for method, path in (
        ("GET", SPACES),
        ("POST", SPACES),
        ("GET", f"{SPACES}/1"),
        ("POST", f"{SPACES}/1/switch"),
    ):
        response = await deployment.client.request(
            method, path, headers=second.headers, json={"model": deployment.new}
        )
        assert response.status_code == 403, (method, path, response.text)
        assert response.json()["error"]["code"] == "forbidden"


async def test_a_model_is_changed_rolled_back_and_finished(
    deployment: Deployment, operator: Person
) -> None:
    assert (await operator.get(SPACES)).json() == {
        "configured_model": deployment.old,
        "spaces": [],
    }
    await deployment.add("One.", "Two.", "Three.")
    started = await operator.post(SPACES, json={"model": deployment.new})
    assert started.status_code == 202, started.text
    target = started.json()
    assert target["role"] == "target"
    assert (target["chunks"], target["embedded"], target["percent"]) == (3, 0, 0)
    assert (target["state"], target["error_code"]) == ("filling", None)
    at = f"{SPACES}/{target['id']}"
    assert (await operator.get(at)).json() == target
    assert (await operator.post(f"{at}/pause")).status_code == 200
    assert (await operator.get(at)).json()["state"] == "paused"
    assert (await operator.post(f"{at}/resume")).status_code == 200
    await deployment.fill()
    roles = await spaces_by_role(operator)
    assert (roles["live"]["model"], roles["live"]["percent"]) == (deployment.new, 100)
    assert (roles["previous"]["model"], roles["previous"]["state"]) == (deployment.old, "switched")

    previous = f"{SPACES}/{roles['previous']['id']}"
    early = await operator.post(f"{previous}/finish")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "just_switched")
    assert early.headers["Retry-After"] == "60"
    assert (await operator.post(f"{previous}/rollback")).status_code == 200
    assert (await spaces_by_role(operator))["live"]["model"] == deployment.old
    assert (await operator.post(f"{at}/switch")).status_code == 200
    await deployment.rows(
        "UPDATE embedding_rollout SET switched_at = switched_at - interval '1 minute'"
    )
    finished = await operator.post(f"{previous}/finish")
    assert [space["role"] for space in finished.json()["spaces"]] == ["live"]
    assert (await operator.post(f"{previous}/finish")).status_code == 404


async def test_a_space_that_was_rolled_back_is_complete_when_nothing_is_left_to_fill(
    deployment: Deployment, operator: Person
) -> None:
    await deployment.add("One.")
    new = (await operator.post(SPACES, json={"model": deployment.new})).json()["id"]
    await deployment.fill()
    old = (await spaces_by_role(operator))["previous"]["id"]

    async def step(space_id: int, action: str) -> str:
        response = await operator.post(f"{SPACES}/{space_id}/{action}")
        assert response.status_code == 200, response.text
        return str((await operator.get(f"{SPACES}/{new}")).json()["state"])

    assert await step(old, "rollback") == "paused"
    assert await step(new, "resume") == "complete"
    await step(new, "pause")
    await deployment.add("Two, while it is paused.")
    assert await step(new, "resume") == "filling"
    await deployment.fill()
    assert (await operator.get(f"{SPACES}/{new}")).json()["state"] == "complete"


async def test_bad_requests_are_told_what_is_wrong(
    deployment: Deployment, operator: Person
) -> None:
    await deployment.add("One.")
    live = (await spaces_by_role(operator))["live"]["id"]
    model = deployment.new.partition("/")[2]
    deployment.provider.by_model[model] = Reply(failure=Failure.STATUS, status=404)
    for method, path, body, status, code in (
        ("POST", "", {"model": "no-such-thing"}, 422, "unknown_model"),
        ("POST", "", {"model": "elsewhere/m"}, 422, "unknown_model"),
        ("POST", "", {"model": "openai/"}, 422, "unknown_model"),
        ("POST", "", {"model": "local/of-my-own"}, 502, "provider_auth"),
        ("POST", "", {"model": deployment.new}, 404, "provider_model_not_found"),
        ("POST", "", {"model": deployment.old}, 409, "already_live"),
        ("POST", "", {"model": deployment.new, "x": 1}, 422, "validation_error"),
        ("GET", "/999", None, 404, "not_found"),
        ("POST", "/999/pause", None, 404, "not_found"),
        ("GET", "/0", None, 422, "validation_error"),
        ("GET", "/99999999999", None, 422, "validation_error"),
        ("POST", f"/{live}/explode", None, 422, "validation_error"),
        ("POST", f"/{live}/finish", None, 409, "wrong_state"),
        ("POST", f"/{live}/cancel", None, 409, "wrong_state"),
    ):
        response = await deployment.client.request(
            method, SPACES + path, headers=operator.headers, json=body
        )
        assert response.status_code == status, (path, body, response.text)
        assert response.json()["error"]["code"] == code


async def test_a_long_query_is_a_reason_to_try_again(
    deployment: Deployment, operator: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_admin, "_ATTEMPTS", 2)
    await deployment.add("One.")
    settings = deployment.resources.settings
    lines: list[str] = []
    async with deployment.resources.db.reading(deployment.person) as driver:
        await driver.fetch("SELECT FROM chunk_embeddings")
        response = await operator.post(SPACES, json={"model": deployment.new})
        status = await run_reembed(
            settings, settings.database_url, "start", model=deployment.new, say=lines.append
        )
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"] == "5"
    assert (status, lines) == (
        1,
        ["Queries or uploads under way keep the space from being made: try again."],
    )
    response = await operator.post(SPACES, json={"model": deployment.new})
    assert response.status_code == 202


async def test_the_command_line_does_the_same(deployment: Deployment) -> None:
    settings = deployment.resources.settings

    async def run(command: str, **options: Any) -> tuple[int, str]:
        lines: list[str] = []
        assert command in COMMANDS
        status = await run_reembed(
            settings, settings.database_url, command, say=lines.append, **options
        )
        return status, "\n".join(lines)

    assert await run("status") == (
        0,
        "Nothing has been embedded yet: the first document is, with EMBEDDING_MODEL.",
    )
    await deployment.add("One.", "Two.")
    status, said = await run("switch")
    assert (status, said) == (1, "No other model is being changed over to.")
    status, said = await run("start", model=deployment.new, is_held=True)
    assert status == 0
    assert f"target    {deployment.new} (256)  0 of 2 chunks  filling" in said
    await deployment.fill()
    assert (
        "2 of 2 chunks  complete  `python -m app reembed switch` makes it live"
        in (await run("status"))[1]
    )
    assert (await run("switch"))[0] == 0
    status, said = await run("finish")
    assert (status, said) == (1, "The live space has just changed: try again in 60 s.")
    status, said = await run("rollback")
    assert f"live      {deployment.old}" in said
    await deployment.rows("UPDATE embedding_rollout SET switched_at = NULL RETURNING 1")
    assert (await run("cancel"))[0] == 0
    assert (await run("status"))[1].count("\n") == 0
