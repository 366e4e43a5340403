"""What each role and each scope of an API key may do: the one table that every route asks."""

from collections.abc import Mapping
from enum import StrEnum

from app.models.accounts import MemberRole


class Permission(StrEnum):
    """One kind of thing that a route does."""

    READ = "read"  # documents, search, one's own conversations, models
    ASK = "ask"  # questions to a model, and what becomes of one's own conversations
    WRITE = "write"  # upload, change and delete documents
    READ_ORGANIZATION = "read_organization"  # its settings, members, usage
    MANAGE_KEYS = "manage_keys"  # one's own API keys
    MANAGE_ORGANIZATION = "manage_organization"  # settings, members, budgets, webhooks, all keys
    OWN_ORGANIZATION = "own_organization"  # make owners, transfer it, delete it


class Scope(StrEnum):
    """What an API key is for; each includes the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


_VIEWER = frozenset({Permission.READ, Permission.ASK, Permission.READ_ORGANIZATION})
_MEMBER = _VIEWER | {Permission.WRITE, Permission.MANAGE_KEYS}
_ADMIN = _MEMBER | {Permission.MANAGE_ORGANIZATION}

ROLE_PERMISSIONS: Mapping[MemberRole, frozenset[Permission]] = {
    MemberRole.VIEWER: _VIEWER,
    MemberRole.MEMBER: _MEMBER,
    MemberRole.ADMIN: _ADMIN,
    MemberRole.OWNER: frozenset(Permission),
}

_READS = frozenset({Permission.READ, Permission.READ_ORGANIZATION})
SCOPE_PERMISSIONS: Mapping[Scope, frozenset[Permission]] = {
    Scope.READ: _READS,
    Scope.WRITE: _READS | {Permission.ASK, Permission.WRITE},
    Scope.ADMIN: frozenset(Permission),
}
