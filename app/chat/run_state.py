"""A run as it is now, wherever it is made and whether it goes on or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.chat.events import Citation, Done, Failure, Start
from app.chat.recording import RunRecord, RunView
from app.chat.run_frames import Heard
from app.chat.run_making import LocalRun
from app.models.conversations import RunStatus


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as it is now. `start`, `citations` and `text` are as far as this process knows them."""

    run_id: UUID
    message_id: UUID
    conversation_id: UUID
    status: RunStatus
    model: str
    start: Start | None
    text: str
    citations: Sequence[Citation]
    failure: Failure | None = None
    done: Done | None = None
    last_event_id: int = 0


def local_state(run: LocalRun) -> RunState:
    begun = run.begun
    return RunState(
        run_id=begun.run_id,
        message_id=begun.message_id,
        conversation_id=begun.conversation_id,
        status=RunStatus.RUNNING if run.log.start else RunStatus.QUEUED,
        model=run.admitted.model_id,
        start=run.log.start,
        text=run.log.text,
        citations=[citation for _, citation in run.log.citations],
        last_event_id=run.log.last_id,
    )


def running_state(view: RunView, heard: Heard) -> RunState:
    return RunState(
        run_id=view.run_id,
        message_id=view.message_id,
        conversation_id=view.conversation_id,
        status=view.status,
        model=view.model,
        start=heard.start,
        text=heard.text if len(heard.text) >= len(view.text) else view.text,
        citations=[citation for _, citation in heard.citations],
    )


def ended_state(view: RunView, record: RunRecord) -> RunState:
    return RunState(
        run_id=view.run_id,
        message_id=view.message_id,
        conversation_id=view.conversation_id,
        status=view.status,
        model=view.model,
        start=record.start,
        text=record.text,
        citations=[citation for _, citation in record.citations],
        failure=record.failure,
        done=record.done,
        last_event_id=record.last_event_id,
    )
