"""For whom limits count."""

from enum import StrEnum
from typing import Protocol
from uuid import UUID


class Level(StrEnum):
    """Whose limit it is."""

    KEY = "key"
    USER = "user"
    ORGANIZATION = "organization"
    ADDRESS = "address"


class LimitedCaller(Protocol):
    """For whom something is counted."""

    @property
    def org_id(self) -> UUID: ...

    @property
    def user_id(self) -> UUID: ...

    @property
    def key_id(self) -> UUID | None: ...
