"""Who a request acts for."""

from dataclasses import dataclass
from uuid import UUID

from app.accounts.permissions import ROLE_PERMISSIONS, SCOPE_PERMISSIONS, Permission, Scope
from app.models.accounts import MemberRole


@dataclass(frozen=True, slots=True)
class Principal:
    """A user in one organization, as checked against the database at most 5 s ago.

    `is_operator` is about the deployment: it opens no organization's data. With an API key,
    `session_id` and `key_id` are the key's; `allowed_models` None lets it use all of them, and the
    limits are the key's own, None where it has none.
    """

    user_id: UUID
    org_id: UUID
    role: MemberRole
    session_id: UUID
    is_operator: bool = False
    key_id: UUID | None = None
    scope: Scope = Scope.ADMIN
    allowed_models: frozenset[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None

    def may(self, permission: Permission) -> bool:
        """Say whether both the role and the key's scope allow it."""
        return (
            permission in ROLE_PERMISSIONS[self.role]
            and permission in SCOPE_PERMISSIONS[self.scope]
        )
