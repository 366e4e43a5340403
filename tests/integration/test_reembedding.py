"""Changing the embedding model while documents come and go and questions are asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.config import Settings
from app.core.errors import Conflict, ProviderError, ProviderErrorKind
from app.core.jobs import JobName, take_jobs
from app.documents.deletion import purge_next
from app.ingestion import embedding_admin
from app.ingestion import rollout as steps
from app.ingestion.embedding_admin import SpaceAction, act_on_space, get_space, start_reembedding
from app.ingestion.hnsw import build_due_indexes
from app.ingestion.kept_spaces import hold_live_vectors
from app.ingestion.lease import claim_next
from app.ingestion.pipeline import ingest_next
from app.ingestion.reembedding import ask_for_filler, fill_next
from app.ingestion.rollout import SETTLE_S, find_rollout, hold_space
from app.ingestion.vectors import FIRST, Progress, count_missing, find_missing
from app.migrations import downgrade, upgrade
from app.models.embeddings import RolloutState
from app.resources import make_ingester, open_resources
from app.retrieval.recall import measure_recall
from app.retrieval.spaces import _TRUST_S, _TTL_S, QueryVector, SpaceDirectory
from tests.conftest import ingest_all, serve
from tests.provider_server import Failure, Reply, embed_words
from tests.rollouts import NEW_DIMENSIONS, Deployment, deploy, execute, make_template, settings_for

ANIMALS = ("walrus", "heron", "otter", "newt", "lynx", "stoat")
MANY = " ".join(f"Paragraph {n} tells of tides and harbors.\n\n" * 30 for n in range(150))


@pytest.fixture(scope="module")
async def template(database_url: str) -> AsyncIterator[str]:
    async with make_template(database_url) as name:
        yield name


@pytest.fixture
async def deployment(settings: Settings, template: str) -> AsyncIterator[Deployment]:
    async with deploy(settings, template) as deployed:
        yield deployed


async def start(deployment: Deployment, *, is_held: bool = False) -> int:
    resources = deployment.resources
    return await start_reembedding(
        resources.db, resources.embedders, deployment.new, is_held=is_held
    )


async def act(deployment: Deployment, action: SpaceAction, space_id: int) -> None:
    await act_on_space(deployment.resources.db, space_id, action)


async def settle(deployment: Deployment) -> None:
    """What waiting does: the last switch was long ago."""
    await deployment.rows(
        "UPDATE embedding_rollout SET switched_at = switched_at - make_interval(secs => :s)",
        s=SETTLE_S,
    )


async def nearest(deployment: Deployment, embedded: QueryVector) -> UUID:
    """Return the document of the nearest visible chunk in the space of a question's vector."""
    assert embedded.space is not None
    async with deployment.resources.db.reading(deployment.person) as driver:
        found: UUID = await driver.fetchval(
            "SELECT e.document_id FROM chunk_embeddings e JOIN documents d ON d.org_id = e.org_id"
            " AND d.id = e.document_id AND d.generation = e.generation AND d.deleted_at IS NULL"
            " WHERE e.space_id = $1 ORDER BY e.embedding <#> $2::halfvec LIMIT 1",
            embedded.space.id,
            embedded.vector,
        )
    return found


def is_of_its_space(deployment: Deployment, embedded: QueryVector, question: str) -> bool:
    """Whether the vector is what the space's own model gives for the question."""
    assert embedded.space is not None
    model = embedded.space.model
    expected = embed_words(question, deployment.provider.dimensions_by_model[model], salt=model)
    return np.allclose(embedded.vector, expected, atol=1e-6)


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the directory of spaces has said."""
    return [
        record.msg
        for record in caplog.records
        if record.name == "app.retrieval.spaces" and isinstance(record.msg, dict)
    ]


# The change over


async def test_no_question_fails_or_mixes_spaces_while_the_model_changes(
    deployment: Deployment,
) -> None:
    resources = deployment.resources
    # Several words each: in the stand-in's vectors two words may fall on one place.
    questions = [" ".join(f"{animal}{n}" for animal in ANIMALS) for n in range(12)]
    ids = await deployment.add(*questions)
    expected = dict(zip(questions, ids, strict=True))
    spaces = SpaceDirectory(resources.db, resources.embedders, ttl_s=0.05)
    is_over = asyncio.Event()
    asked_in: dict[str, int] = {}

    async def ask() -> None:
        while not is_over.is_set():
            for question, document_id in expected.items():
                [embedded] = await spaces.embed_queries(deployment.person, [question])
                assert is_of_its_space(deployment, embedded, question)
                assert await nearest(deployment, embedded) == document_id
                assert embedded.space is not None
                asked_in[embedded.space.model_id] = asked_in.get(embedded.space.model_id, 0) + 1

    async def come_and_go() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            (document_id,) = await deployment.add(f"The pelican{number} nests on a cliff.")
            if number % 2:
                await deployment.person.delete(f"/api/v1/documents/{document_id}")
                while await purge_next(resources.db, resources.storage):
                    pass

    async def asked(model: str, more: int) -> None:
        target = asked_in.get(model, 0) + more
        async with asyncio.timeout(60):
            while asked_in.get(model, 0) < target:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        group.create_task(come_and_go())
        await asked(deployment.old, 10)
        space_id = await start(deployment)
        async with asyncio.timeout(60):
            while (await deployment.rollout()).state is not RolloutState.SWITCHED:
                await fill_next(deployment.filler)
        await asked(deployment.new, 40)
        # At once, whatever has been uploaded since.
        old_id = (await deployment.rollout()).beside
        assert old_id is not None
        await act(deployment, SpaceAction.ROLLBACK, old_id.id)
        await asked(deployment.old, 40)
        is_over.set()
    rollout = await deployment.rollout()
    assert (rollout.live.model_id, rollout.state) == (deployment.old, RolloutState.PAUSED)
    assert rollout.beside is not None
    assert rollout.beside.id == space_id
    async with resources.db.system_transaction() as session:
        assert await count_missing(session, rollout.live.id) == 0


async def test_progress_is_exact_and_the_switch_comes_by_itself(deployment: Deployment) -> None:
    await deployment.add(*(f"Sentence number {n}." for n in range(7)))
    gone = (await deployment.add("This one is deleted."))[0]
    await deployment.person.delete(f"/api/v1/documents/{gone}")
    space_id = await start(deployment)
    db = deployment.resources.db
    assert (await get_space(db, space_id)).progress == Progress(visible=7, embedded=0)
    await deployment.fill()
    status = await get_space(db, space_id)
    assert (status.progress, status.role) == (Progress(7, 7), "live")
    live = await SpaceDirectory(db, deployment.resources.embedders).find_live()
    assert live is not None
    assert (live.model_id, live.dimensions) == (deployment.new, NEW_DIMENSIONS)
    # The deleted one got none, and what it had goes from every space.
    await purge_next(db, deployment.resources.storage)
    left = await deployment.rows("SELECT 1 FROM chunk_embeddings WHERE document_id = :id", id=gone)
    assert not left


async def test_a_held_space_waits_and_stays_complete(deployment: Deployment) -> None:
    await deployment.add("The first one.")
    space_id = await start(deployment, is_held=True)
    await deployment.fill()
    (second,) = await deployment.add("The second one, while it waits.")
    assert await deployment.spaces_of(second) == {deployment.old, deployment.new}
    assert (await deployment.rollout()).live.model_id == deployment.old
    await act(deployment, SpaceAction.SWITCH, space_id)
    assert (await deployment.rollout()).live.model_id == deployment.new


async def test_after_the_switch_both_spaces_are_kept_until_it_is_finished(
    deployment: Deployment,
) -> None:
    (first,) = await deployment.add("The first one.")
    await start(deployment)
    await deployment.fill()
    (second,) = await deployment.add("The second one, after the switch.")
    assert await deployment.spaces_of(second) == {deployment.old, deployment.new}
    old = (await deployment.rollout()).beside
    assert old is not None
    with pytest.raises(Conflict, match="just changed"):
        await act(deployment, SpaceAction.FINISH, old.id)
    await settle(deployment)
    await act(deployment, SpaceAction.FINISH, old.id)
    assert (await deployment.rollout()).state is RolloutState.IDLE
    tables = await deployment.rows("SELECT to_regclass(:t) AS name", t=f"chunk_embeddings_{old.id}")
    assert tables[0].name is None
    (third,) = await deployment.add("The third one, after the end.")
    for document_id in (first, second, third):
        assert await deployment.spaces_of(document_id) == {deployment.new}


async def test_a_cancelled_space_leaves_nothing(deployment: Deployment) -> None:
    await deployment.add("The first one.")
    space_id = await start(deployment, is_held=True)
    await deployment.fill()
    await act(deployment, SpaceAction.CANCEL, space_id)
    assert [row.id for row in await deployment.rows("SELECT id FROM embedding_spaces")] == [
        (await deployment.rollout()).live.id
    ]
    assert await fill_next(deployment.filler) is False
    assert await start(deployment) != space_id


async def test_a_space_that_was_rolled_back_goes_live_only_by_a_switch(
    deployment: Deployment,
) -> None:
    await deployment.add("The first one.")
    space_id = await start(deployment)
    await deployment.fill()
    old = (await deployment.rollout()).beside
    assert old is not None
    await act(deployment, SpaceAction.ROLLBACK, old.id)
    await act(deployment, SpaceAction.RESUME, space_id)
    await deployment.fill()
    rollout = await deployment.rollout()
    assert (rollout.live, rollout.state, rollout.is_held) == (old, RolloutState.FILLING, True)
    await act(deployment, SpaceAction.SWITCH, space_id)
    assert (await deployment.rollout()).live.id == space_id


async def test_steps_that_do_not_fit_are_conflicts(deployment: Deployment) -> None:
    with pytest.raises(Conflict, match="Nothing has been embedded"):
        await start(deployment)
    await deployment.add("The first one.")
    resources = deployment.resources
    with pytest.raises(Conflict, match="live already"):
        await start_reembedding(resources.db, resources.embedders, deployment.old)
    space_id = await start(deployment)
    with pytest.raises(Conflict, match="finish or cancel it first"):
        await start(deployment)
    for action in (SpaceAction.RESUME, SpaceAction.ROLLBACK, SpaceAction.FINISH):
        with pytest.raises(Conflict):
            await act(deployment, action, space_id)
    with pytest.raises(Conflict, match="1 chunks have no vector"):
        await act(deployment, SpaceAction.SWITCH, space_id)
    live = (await deployment.rollout()).live
    for action in SpaceAction:
        with pytest.raises(Conflict):
            await act(deployment, action, live.id)
    async with resources.db.system_transaction() as session:
        with pytest.raises(Exception, match="is in use"):
            await session.execute(text("SELECT drop_embedding_space(:id)"), {"id": live.id})
        await session.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE embedding_rollout SET live_id = live_id",
        "DELETE FROM embedding_rollout",
        "SELECT drop_embedding_space(1)",
        "SELECT lacks_vectors(1, NULL, NULL, 1)",
        "SELECT * FROM embedding_fills",
    ],
)
async def test_an_organization_may_change_nothing_of_it(
    deployment: Deployment, statement: str
) -> None:
    async with deployment.resources.db.transaction(deployment.person) as session:
        with pytest.raises(DBAPIError, match="permission denied"):
            await session.execute(text(statement))
        await session.rollback()


# Races


async def test_a_switch_waits_for_who_publishes_and_then_sees_the_document(
    deployment: Deployment,
) -> None:
    """The document is published with vectors in the old space only, at the very last moment."""
    await deployment.add("The first one.")
    space_id = await start(deployment, is_held=True)
    await deployment.fill()
    await act(deployment, SpaceAction.PAUSE, space_id)  # so that the next one is not written there
    db = deployment.resources.db
    document_id = await deployment.upload("The second one.")
    async with db.system_transaction() as session:
        lease = await claim_next(session, per_org=2)
    assert lease is not None
    await deployment.rows(
        "UPDATE documents SET status = 'queued', lease_expires_at = NULL WHERE id = :id",
        id=document_id,
    )
    async with db.transaction(lease) as session:
        # Nothing to publish yet, but the lock is held as in a publish.
        await hold_live_vectors(session, lease)
        switching = asyncio.create_task(act(deployment, SpaceAction.SWITCH, space_id))
        await _until_one_waits(deployment)
        # Ingested meanwhile: readers hold the same lock together.
        await ingest_all(make_ingester(deployment.resources))
        assert not switching.done()
    with pytest.raises(Conflict, match="1 chunks have no vector"):
        await switching
    assert await deployment.spaces_of(document_id) == {deployment.old}


async def _until_one_waits(deployment: Deployment) -> None:
    async with asyncio.timeout(10):
        while not await deployment.rows("SELECT 1 FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)


async def test_a_document_that_was_begun_before_the_switch_is_ready_after_it_in_both(
    deployment: Deployment,
) -> None:
    await deployment.add("The first one.")
    space_id = await start(deployment, is_held=True)
    await deployment.fill()
    resources = deployment.resources
    document_id = await deployment.upload("The second one.")
    async with resources.db.system_transaction() as session:
        # Locked as in a switch, until the document wants to be published.
        await steps.pause(session, space_id)
        ingesting = asyncio.create_task(ingest_next(make_ingester(resources)))
        await _until_one_waits(deployment)
        await steps.switch(session, space_id)
    assert await ingesting
    assert await deployment.spaces_of(document_id) == {deployment.old, deployment.new}
    status = await deployment.person.get(f"/api/v1/documents/{document_id}")
    assert status.json()["status"] == "ready"


async def test_whatever_is_published_between_switches_is_complete_in_the_live_space(
    deployment: Deployment,
) -> None:
    await deployment.add("The first one.")
    resources = deployment.resources
    await start(deployment)
    for _ in range(24):
        await deployment.upload(f"Sentence {uuid4()} of a document.")
    ingesters = [
        asyncio.create_task(ingest_all(replace(make_ingester(resources), per_org=4)))
        for _ in range(3)
    ]
    switches = 0
    while not all(task.done() for task in ingesters):
        rollout = await deployment.rollout()
        assert rollout.beside is not None
        with suppress(Conflict):
            match rollout.state:
                case RolloutState.FILLING:
                    await fill_next(deployment.filler)
                case RolloutState.SWITCHED:
                    await act(deployment, SpaceAction.ROLLBACK, rollout.beside.id)
                    switches += 1
                case RolloutState.PAUSED:
                    await act(deployment, SpaceAction.SWITCH, rollout.beside.id)
        async with resources.db.system_transaction() as session:
            assert await hold_space(session, rollout.live.id)  # no switch meanwhile
            now = await find_rollout(session)
            assert now is not None
            assert await count_missing(session, now.live.id) == 0
    await asyncio.gather(*ingesters)
    assert switches >= 2
    statuses = await deployment.rows("SELECT DISTINCT status FROM documents")
    assert [row.status for row in statuses] == ["ready"]


async def test_a_space_that_is_taken_up_again_is_not_dropped(deployment: Deployment) -> None:
    """Somebody starts the same model again, while a query still delays the end of the space."""
    await deployment.add("The first one.")
    space_id = await start(deployment, is_held=True)
    async with deployment.resources.db.reading(deployment.person) as driver:
        await driver.fetch("SELECT FROM chunk_embeddings WHERE space_id = $1", space_id)
        cancelling = asyncio.create_task(act(deployment, SpaceAction.CANCEL, space_id))
        async with asyncio.timeout(10):
            while (await deployment.rollout()).beside is not None:
                await asyncio.sleep(0.01)
        assert await start(deployment, is_held=True) == space_id
    with pytest.raises(Conflict, match="in use again"):
        await cancelling
    rollout = await deployment.rollout()
    assert rollout.beside is not None
    assert (rollout.beside.id, rollout.state) == (space_id, RolloutState.FILLING)


async def test_a_measurement_is_in_nobodys_way(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is about to store what it found; to make a space locks the table of vectors."""
    await deployment.add("The first one.")
    resources = deployment.resources
    engine = create_async_engine(resources.settings.database_url, poolclass=NullPool)
    monkeypatch.setattr(embedding_admin, "_ATTEMPTS", 2)  # fewer than outlast the measurement
    async with engine.begin() as owner:
        await owner.execute(text("LOCK TABLE index_recall IN SHARE MODE"))
        measuring = asyncio.create_task(measure_recall(resources.db, every_space=True))
        await _until_one_waits(deployment)
        await start(deployment)
    await engine.dispose()
    await asyncio.gather(measuring, return_exceptions=True)  # it gives up waiting after 3 s
    assert (await deployment.rollout()).beside is not None


async def test_the_first_document_decides_which_model_is_live(
    deployment: Deployment, settings: Settings
) -> None:
    """Two processes with different settings, and the first documents of all at the same time."""
    other_settings = settings_for(
        settings,
        deployment.provider,
        database_url=deployment.resources.settings.database_url,
        model=deployment.new,
    )
    for n in range(6):
        await deployment.upload(f"Document {n}.")
    async with open_resources(other_settings) as other:
        await asyncio.gather(
            *(
                ingest_all(replace(make_ingester(resources), per_org=9))
                for resources in (deployment.resources, other)
            )
        )
    live = (await deployment.rollout()).live
    async with deployment.resources.db.system_transaction() as session:
        assert await count_missing(session, live.id) == 0
    ready = await deployment.rows("SELECT 1 FROM documents WHERE status = 'ready'")
    assert len(ready) == 6


async def test_a_document_under_way_survives_the_end_of_its_space(deployment: Deployment) -> None:
    """It was begun in the old space, which is gone before its second batch is committed."""
    await deployment.add("The first one.")
    await start(deployment)
    document_id = await deployment.upload(MANY)
    old = deployment.provider
    ingesting = asyncio.create_task(ingest_next(make_ingester(deployment.resources)))
    async with asyncio.timeout(30):
        while not await deployment.rows(
            "SELECT 1 FROM documents WHERE id = :id AND checkpoint_chunks > 0", id=document_id
        ):
            await asyncio.sleep(0)
    old.delay_s = 0.5
    await deployment.rows(
        "UPDATE embedding_fills SET is_behind = true, lease_expires_at = NULL, retry_at = NULL"
    )
    await deployment.fill()
    beside = (await deployment.rollout()).beside
    assert beside is not None
    await settle(deployment)
    await act(deployment, SpaceAction.FINISH, beside.id)
    old.delay_s = 0.0
    assert await ingesting
    assert await deployment.spaces_of(document_id) == {deployment.new}


# Workers and providers that fail


async def test_a_killed_filler_goes_on_where_it_was(deployment: Deployment) -> None:
    await deployment.add(MANY)
    await start(deployment)
    provider = deployment.provider
    chunks = (await deployment.rows("SELECT count(*) AS n FROM chunks"))[0].n
    assert chunks > 200
    before = provider.embedding_inputs
    provider.script(Reply(), Reply(failure=Failure.HANG))
    killed = asyncio.create_task(fill_next(deployment.filler))
    await provider.wait_until(lambda: provider.by_failure[Failure.HANG] == 1)
    killed.cancel()
    with suppress(asyncio.CancelledError):
        await killed
    stored = await deployment.rows(
        "SELECT count(*) AS n FROM chunk_embeddings WHERE space_id = (SELECT beside_id FROM"
        " embedding_rollout)"
    )
    assert stored[0].n == 100
    # Its lease is not over yet: nobody else does the same work.
    assert await fill_next(deployment.filler) is False
    await deployment.rows("UPDATE embedding_fills SET lease_expires_at = now()")
    await deployment.fill()
    assert (await deployment.rollout()).live.model_id == deployment.new
    # Every chunk once, but for the batch that was under way.
    assert provider.embedding_inputs - before == chunks + 100


async def test_a_look_reads_no_more_than_its_window(deployment: Deployment) -> None:
    """So that it takes no longer where millions of chunks have their vectors already."""
    await deployment.add(*(f"Sentence {n}." for n in range(7)))
    await start(deployment, is_held=True)
    await deployment.fill()
    space = (await deployment.rollout()).beside
    assert space is not None
    last = (await deployment.rows("SELECT org_id, id FROM chunks ORDER BY 1 DESC, 2 DESC"))[0]
    await deployment.rows("DELETE FROM chunk_embeddings WHERE chunk_id = :id", id=last.id)
    looks, found, after = 0, 0, FIRST
    async with deployment.resources.db.system_transaction() as session:
        while True:
            look = await find_missing(session, space.id, after=after, window=2)
            looks += 1
            found += len(look.missing)
            if look.after is None:
                break
            after = look.after
    assert (looks, found) == (4, 1)


async def test_a_wake_up_that_was_lost_is_sent_again(deployment: Deployment) -> None:
    await deployment.add("The first one.")
    db = deployment.resources.db

    async def asked_for() -> list[JobName]:
        async with db.system_transaction() as session:
            await ask_for_filler(session)
            return list(take_jobs(session))

    assert await asked_for() == []
    space_id = await start(deployment)
    assert await asked_for() == [JobName.REEMBED]
    await act(deployment, SpaceAction.PAUSE, space_id)
    assert await asked_for() == []
    await act(deployment, SpaceAction.RESUME, space_id)
    await deployment.fill()
    assert await asked_for() == []


@pytest.mark.parametrize(
    ("reply", "code", "is_paused"),
    [
        (Reply(failure=Failure.STATUS, status=401), "provider_auth", True),
        (Reply(failure=Failure.STATUS, status=404), "provider_model_not_found", True),
        (Reply(failure=Failure.STATUS, status=503), "provider_overloaded", False),
        (Reply(failure=Failure.NAN), "provider_protocol", False),
    ],
)
async def test_a_provider_that_fails_pauses_or_is_tried_again(
    deployment: Deployment, reply: Reply, code: str, *, is_paused: bool
) -> None:
    await deployment.add("The first one.")
    space_id = await start(deployment)
    model = deployment.new.partition("/")[2]
    deployment.provider.by_model[model] = reply
    await deployment.fill()
    status = await get_space(deployment.resources.db, space_id)
    assert (status.error_code, status.state) == (code, "paused" if is_paused else "filling")
    # Questions and documents don't suffer from it.
    (second,) = await deployment.add("The second one.")
    assert deployment.old in await deployment.spaces_of(second)
    del deployment.provider.by_model[model]
    if is_paused:
        await act(deployment, SpaceAction.RESUME, space_id)
    else:
        assert await fill_next(deployment.filler) is False  # not before its time
        await deployment.rows("UPDATE embedding_fills SET retry_at = now()")
    await deployment.fill()
    rollout = await deployment.rollout()
    assert rollout.live.model_id == deployment.new
    assert (await get_space(deployment.resources.db, space_id)).error_code is None


async def test_after_the_last_attempt_it_is_paused(deployment: Deployment) -> None:
    await deployment.add("The first one.")
    space_id = await start(deployment)
    model = deployment.new.partition("/")[2]
    deployment.provider.by_model[model] = Reply(failure=Failure.SHORT_BATCH)
    await deployment.rows("UPDATE embedding_fills SET failures = 9")
    await deployment.fill()
    status = await get_space(deployment.resources.db, space_id)
    assert (status.state, status.error_code) == ("paused", "provider_protocol")


async def test_a_previous_model_that_is_away_holds_up_no_document(deployment: Deployment) -> None:
    await deployment.add("The first one.")
    await start(deployment)
    await deployment.fill()
    model = deployment.old.partition("/")[2]
    deployment.provider.by_model[model] = Reply(failure=Failure.STATUS, status=401)
    (second,) = await deployment.add("The second one.")
    assert await deployment.spaces_of(second) == {deployment.new}
    old = (await deployment.rollout()).beside
    assert old is not None
    with pytest.raises(Conflict, match="1 chunks have no vector"):
        await act(deployment, SpaceAction.ROLLBACK, old.id)
    await deployment.fill()  # fails, and is tried again later
    del deployment.provider.by_model[model]
    await deployment.rows("UPDATE embedding_fills SET retry_at = now()")
    await deployment.fill()
    await act(deployment, SpaceAction.ROLLBACK, old.id)
    assert (await deployment.rollout()).live == old


async def test_a_model_that_can_not_be_used_is_refused_at_the_start(deployment: Deployment) -> None:
    await deployment.add("The first one.")
    model = deployment.new.partition("/")[2]
    deployment.provider.by_model[model] = Reply(failure=Failure.STATUS, status=404)
    with pytest.raises(ProviderError) as refused:
        await start(deployment)
    assert refused.value.kind is ProviderErrorKind.MODEL_NOT_FOUND
    assert (await deployment.rollout()).state is RolloutState.IDLE


async def test_the_index_comes_before_the_switch(deployment: Deployment) -> None:
    await deployment.add(*(f"Sentence {n}." for n in range(3)))
    await start(deployment)
    filler = replace(deployment.filler, index_threshold=2)
    assert await fill_next(filler) is False
    rollout = await deployment.rollout()
    assert rollout.live.model_id == deployment.old
    assert rollout.beside is not None
    url = deployment.resources.settings.database_url
    assert f"chunk_embeddings_{rollout.beside.id}_hnsw" in await build_due_indexes(url, threshold=2)
    await deployment.rows("UPDATE embedding_fills SET retry_at = now()")
    assert await fill_next(filler) is False
    assert (await deployment.rollout()).live.model_id == deployment.new
    live = await SpaceDirectory(deployment.resources.db, deployment.resources.embedders).find_live()
    assert live is not None
    assert live.has_hnsw


async def test_while_the_index_is_built_the_chunks_are_not_read_again(
    deployment: Deployment,
) -> None:
    await deployment.add(MANY)
    space_id = await start(deployment)
    filler = replace(deployment.filler, index_threshold=2)
    await fill_next(filler)
    (fill,) = await deployment.rows("SELECT after_chunk_id FROM embedding_fills")
    assert fill.after_chunk_id not in (None, FIRST[1])
    # A chunk that comes before that is found all the same.
    await deployment.rows(
        "DELETE FROM chunk_embeddings WHERE space_id = :id AND chunk_id ="
        " (SELECT id FROM chunks ORDER BY org_id, id LIMIT 1)",
        id=space_id,
    )
    await build_due_indexes(deployment.resources.settings.database_url, threshold=2)
    for _ in range(3):
        await deployment.rows("UPDATE embedding_fills SET retry_at = now()")
        await fill_next(filler)
    assert (await deployment.rollout()).live.id == space_id


# Looking up the live space


async def test_a_busy_database_keeps_no_question_from_its_space(deployment: Deployment) -> None:
    await deployment.add("The walrus swims in the sea.")
    resources = deployment.resources
    spaces = SpaceDirectory(resources.db, resources.embedders, ttl_s=0.0)
    doubter = SpaceDirectory(resources.db, resources.embedders, ttl_s=0.0, trust_s=0.0)
    stranger = SpaceDirectory(resources.db, resources.embedders)
    live = await spaces.find_live()
    assert live is not None
    assert await doubter.find_live() == live
    async with AsyncExitStack() as stack:
        for _ in range(2):  # all connections of the pool
            session = await stack.enter_async_context(resources.db.system_transaction())
            await session.execute(text("SELECT 1"))
        assert await asyncio.gather(*(spaces.find_live() for _ in range(5))) == [live] * 5
        # What was never known, or too long ago, is no answer.
        for other in (doubter, stranger):
            with pytest.raises(PoolTimeoutError):
                await other.find_live()
    assert await stranger.find_live() == live


def test_a_space_is_kept_for_longer_than_it_is_believed_to_be_live() -> None:
    longest_embedding_s = 30
    assert _TTL_S < _TRUST_S < SETTLE_S - longest_embedding_s


# Settings


async def test_another_setting_changes_nothing_but_the_log(
    deployment: Deployment, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = await deployment.add("The walrus swims in the sea.")
    other_settings = settings_for(
        settings,
        deployment.provider,
        database_url=deployment.resources.settings.database_url,
        model=deployment.new,
    )
    async with open_resources(other_settings) as other:
        caplog.clear()
        await other.spaces.check()
        (warning,) = logged(caplog)
        assert warning["event"] == "embedding_model_differs"
        assert f"python -m app reembed start {deployment.new}" in warning["remedy"]
        [embedded] = await other.spaces.embed_queries(deployment.person, ["Where is the walrus?"])
        assert is_of_its_space(deployment, embedded, "Where is the walrus?")
        assert await nearest(deployment, embedded) == first
        second = await deployment.upload("The pelican nests on a cliff.")
        await ingest_all(make_ingester(other))
    assert await deployment.spaces_of(second) == {deployment.old}


async def test_a_live_model_without_its_key_is_a_clear_error(
    deployment: Deployment, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    await deployment.add("The walrus swims in the sea.")
    keyless = settings.model_copy(
        update={"database_url": deployment.resources.settings.database_url}
    )
    async with open_resources(keyless) as other:
        caplog.clear()
        assert await other.spaces.check() is None
        assert [entry["event"] for entry in logged(caplog)] == [
            "embedding_model_differs",
            "live_embedding_model_unusable",
        ]
        with pytest.raises(ProviderError, match="no key or address") as refused:
            await other.spaces.embed_queries(deployment.person, ["Where is the walrus?"])
        assert refused.value.kind is ProviderErrorKind.AUTH
        document_id = await deployment.upload("The pelican nests on a cliff.")
        await ingest_all(make_ingester(other))
    document = (await deployment.person.get(f"/api/v1/documents/{document_id}")).json()
    assert (document["status"], document["error_code"]) == ("failed", "embedding_unauthorized")


@pytest.mark.parametrize("refused", [False, True], ids=["no-key", "wrong-key"])
async def test_without_a_key_for_the_live_model_words_alone_answer(
    deployment: Deployment, settings: Settings, *, refused: bool
) -> None:
    heron, _ = await deployment.add("The heron waits in the reeds.", "Otters crack shells.")
    if refused:
        model = deployment.old.partition("/")[2]
        deployment.provider.by_model[model] = Reply(failure=Failure.STATUS, status=401)
        settings = deployment.resources.settings
    keyless = settings.model_copy(
        update={"database_url": deployment.resources.settings.database_url}
    )
    question = "Where does the heron wait?"
    async with serve(keyless) as (_, client):
        person = replace(deployment.person, client=client)
        search = await person.post("/api/v1/search", json={"query": question, "explain": True})
        chat = await person.post("/api/v1/chat/", json={"messages": [{"content": question}]})
    assert (search.status_code, chat.status_code) == (200, 200), (search.text, chat.text)
    found, answer = search.json(), chat.json()
    assert found["results"][0]["document_id"] == str(heron)
    trace = found["trace"]
    (step,) = (step for step in trace["steps"] if step["name"] == "dense")
    assert (step["outcome"], step["reason"]) == ("fell_back", "unavailable")
    assert (trace["plan"], trace["space_id"]) == ("none", None)
    assert {place for c in trace["candidates"] for place in c["places"]} == {"fulltext", "fused"}
    assert "heron waits in the reeds" in answer["response"]
    assert [c["document_id"] for c in answer["citations"]] == [str(heron)]


async def test_vectors_of_another_width_are_no_answer(deployment: Deployment) -> None:
    await deployment.add("The walrus swims in the sea.")
    owner = deployment.resources.settings.database_url
    await execute(owner, "UPDATE embedding_spaces SET dimensions = 95")
    spaces = SpaceDirectory(deployment.resources.db, deployment.resources.embedders)
    with pytest.raises(ProviderError) as refused:
        await spaces.embed_queries(deployment.person, ["Where is the walrus?"])
    assert refused.value.kind is ProviderErrorKind.PROTOCOL


async def test_what_a_changed_setting_left_behind_is_filled_in_after_the_upgrade(
    deployment: Deployment, settings: Settings
) -> None:
    """Before there was a live space, documents were embedded with whatever was set."""
    url = deployment.resources.settings.database_url
    await deployment.add("The first one.", "The second one.")
    other_settings = settings_for(
        settings, deployment.provider, database_url=url, model=deployment.new
    )
    third = await deployment.upload("The third one.")
    async with open_resources(other_settings) as other:
        ingester = replace(make_ingester(other), kept=None)
        await ingest_all(ingester)
    await asyncio.to_thread(downgrade, url, "0004")
    await asyncio.to_thread(upgrade, url)
    assert (await deployment.rollout()).live.model_id == deployment.old
    assert await deployment.spaces_of(third) == {deployment.new}
    await deployment.fill()
    assert await deployment.spaces_of(third) == {deployment.old, deployment.new}
