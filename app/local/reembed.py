"""`python -m app reembed`: change the embedding model of a deployment while it answers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from app.config import Settings
from app.core.db import Database
from app.core.errors import AppError
from app.core.jobs import JobName, JobSender
from app.ingestion.embedding_admin import (
    SpaceAction,
    SpaceRole,
    SpaceStatus,
    act_on_space,
    get_space_beside,
    list_spaces,
    start_reembedding,
)
from app.llm.embedders import Embedders
from app.llm.registry import open_models

START, STATUS = "start", "status"
COMMANDS = (START, STATUS, *(action.value for action in SpaceAction))

_NOTHING = "Nothing has been embedded yet: the first document is, with EMBEDDING_MODEL."


class _NoJobs(JobSender):
    """Sends nothing: the API sees within seconds what there is to do, and wakes a worker."""

    async def send_all(self, jobs: Sequence[JobName]) -> None: ...


async def run_reembed(
    settings: Settings,
    database_url: str,
    command: str,
    *,
    model: str = "",
    is_held: bool = False,
    space_id: int | None = None,
    say: Callable[[str], None],
) -> int:
    """Run one of COMMANDS, on the space beside the live one unless `space_id` names another.

    Says what is there afterwards. Returns the exit status: 1 when the command can't be done now.
    """
    async with _opened(settings, database_url) as (db, embedders):
        try:
            if command == START:
                await start_reembedding(db, embedders, model, is_held=is_held)
            elif command != STATUS:
                chosen = space_id or await get_space_beside(db)
                await act_on_space(db, chosen, SpaceAction(command))
        except AppError as error:
            say(error.message)
            return 1
        spaces = await list_spaces(db)
        for space in spaces:
            say(describe(space))
        if not any(space.role is SpaceRole.LIVE for space in spaces):
            say(_NOTHING)
    return 0


def describe(space: SpaceStatus) -> str:
    """One line about a space, with what can be done next."""
    progress = space.progress
    line = (
        f"{space.id:>3}  {space.role:<8}  {space.model} ({space.dimensions})  "
        f"{progress.embedded} of {progress.visible} chunks"
    )
    if space.state:
        line += f"  {space.state}"
    if space.error_code:
        line += f"  {space.error_code}: mend it, then `python -m app reembed resume`"
    elif space.is_held and progress.embedded == progress.visible:
        line += "  `python -m app reembed switch` makes it live"
    elif space.role is SpaceRole.PREVIOUS:
        line += "  `python -m app reembed finish` frees it, `rollback` makes it live again"
    return line


@asynccontextmanager
async def _opened(
    settings: Settings, database_url: str
) -> AsyncIterator[tuple[Database, Embedders]]:
    db = Database(database_url, _NoJobs("redis://"))
    try:
        async with open_models(settings) as models:
            yield db, Embedders(models, None)
    finally:
        await db.close()
