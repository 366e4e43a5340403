"""Who a request acts for."""

from dataclasses import dataclass
from uuid import UUID

from app.models.accounts import MemberRole


@dataclass(frozen=True, slots=True)
class Principal:
    """A user in one organization, as checked against the database at most 5 s ago.

    `is_operator` is about the deployment: it opens no organization's data.
    """

    user_id: UUID
    org_id: UUID
    role: MemberRole
    session_id: UUID
    is_operator: bool = False
