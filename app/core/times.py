"""A moment that a client names."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it is no time of this calendar") from error


def _to_future(moment: datetime) -> datetime:
    if moment <= datetime.now(UTC):
        raise ValueError("it must be in the future")
    return moment


# With its time zone; in UTC, as the database will want it.
Moment = Annotated[AwareDatetime, AfterValidator(_to_utc)]
FutureTime = Annotated[Moment, AfterValidator(_to_future)]
