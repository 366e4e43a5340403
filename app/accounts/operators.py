"""Who operates this deployment, and what they see of its users and organizations: no documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from app.accounts import audit, sign_ins
from app.accounts.audit import AuditEntry
from app.accounts.users import normalize_email
from app.core.errors import Conflict, NotFound
from app.core.pagination import Page
from app.models.accounts import MemberRole, Membership, Organization, User

_LIST = text("SELECT email FROM users WHERE is_operator ORDER BY email")
_LOCK = text("SELECT pg_advisory_xact_lock(7330402119)")
_MEMBERS = text("""
    SELECT org_id, count(*) AS members FROM memberships WHERE org_id = ANY(:ids) GROUP BY org_id
""")
_DOCUMENTS = text("""
    SELECT org_id, count(*) AS documents, coalesce(sum(size_bytes), 0)::bigint AS bytes
    FROM documents WHERE org_id = ANY(:ids) AND deleted_at IS NULL GROUP BY org_id
""")


@dataclass(frozen=True, slots=True)
class OrganizationRole:
    """A user's place in an organization."""

    org_id: UUID
    name: str
    role: MemberRole


@dataclass(frozen=True, slots=True)
class UserView:
    user: User
    organizations: Sequence[OrganizationRole]


@dataclass(frozen=True, slots=True)
class OrganizationView:
    """`documents` and `document_bytes` count every live one, also the private ones."""

    organization: Organization
    members: int
    documents: int
    document_bytes: int


async def set_operator(database_url: str, email: str, *, is_operator: bool) -> bool:
    """Make the user an operator, or no longer one; noticed within 5 s. False for an unknown one.

    Connects as the owner, and leaves a line in the audit log. Raises UnprocessableRequest for what
    can't be an address, and Conflict (`user_inactive`) for making one of who is switched off.
    """
    engine = create_async_engine(database_url, poolclass=NullPool)
    try:
        async with AsyncSession(engine) as session, session.begin():
            user = await session.scalar(
                select(User).where(User.email == normalize_email(email)).with_for_update()
            )
            if user is None:
                return False
            if is_operator and not user.is_active:
                raise Conflict(
                    "This user is switched off: an operator must switch them on first.",
                    code="user_inactive",
                )
            user.is_operator = is_operator
            await audit.append(session, _by_command_line(user.id, is_operator=is_operator))
            return True
    finally:
        await engine.dispose()


async def list_operators(database_url: str) -> Sequence[str]:
    """Return their addresses. Connects as the owner."""
    engine = create_async_engine(database_url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return (await connection.scalars(_LIST)).all()
    finally:
        await engine.dispose()


async def list_users(
    session: AsyncSession, *, words: str, cursor: UUID | None, limit: int
) -> Page[UserView]:
    """Return users with `words` in their address or name, newest first. A system transaction."""
    conditions: list[ColumnElement[bool]] = []
    if words:
        conditions.append(
            or_(
                User.email.icontains(words, autoescape=True),
                User.name.icontains(words, autoescape=True),
            )
        )
    if cursor is not None:
        conditions.append(User.id < cursor)
    query = select(User).where(*conditions).order_by(User.id.desc()).limit(limit + 1)
    page = Page.of((await session.scalars(query)).all(), limit, lambda last: str(last.id))
    places = await _find_places(session, [user.id for user in page.items])
    items = [UserView(user, places.get(user.id, ())) for user in page.items]
    return Page(items, page.next_cursor)


async def change_user(
    session: AsyncSession,
    user_id: UUID,
    *,
    is_active: bool | None = None,
    is_operator: bool | None = None,
) -> UserView:
    """Change what is not None; noticed within 5 s, by keys and open streams too.

    A user who is switched off is signed out. Raises NotFound, and Conflict (`last_operator`) when
    nobody would be left. Needs a system transaction.
    """
    await session.execute(_LOCK)
    user = await session.scalar(select(User).where(User.id == user_id).with_for_update())
    if user is None:
        raise NotFound("There is no such user.")
    if user.is_operator and (is_operator is False or is_active is False):
        others = await session.scalar(
            select(func.count()).where(User.is_operator, User.is_active, User.id != user_id)
        )
        if not others:
            raise Conflict("Nobody else operates this deployment.", code="last_operator")
    if is_operator is not None:
        user.is_operator = is_operator
    if is_active is False and user.is_active:
        await sign_ins.end_all(session, user_id)
        await session.execute(
            update(User).where(User.id == user_id).values(token_epoch=User.token_epoch + 1)
        )
    if is_active is not None:
        user.is_active = is_active
    await session.flush()
    await session.refresh(user)
    places = await _find_places(session, [user_id])
    return UserView(user, places.get(user_id, ()))


async def list_organizations(
    session: AsyncSession, *, words: str, cursor: UUID | None, limit: int
) -> Page[OrganizationView]:
    """Return organizations with `words` in their name, newest first. A system transaction."""
    query = select(Organization).order_by(Organization.id.desc()).limit(limit + 1)
    if words:
        query = query.where(Organization.name.icontains(words, autoescape=True))
    if cursor is not None:
        query = query.where(Organization.id < cursor)
    page = Page.of((await session.scalars(query)).all(), limit, lambda last: str(last.id))
    ids = {"ids": [organization.id for organization in page.items]}
    members = {row.org_id: row.members for row in await session.execute(_MEMBERS, ids)}
    documents = {row.org_id: row for row in await session.execute(_DOCUMENTS, ids)}
    items = [
        OrganizationView(
            each,
            members.get(each.id, 0),
            documents[each.id].documents if each.id in documents else 0,
            documents[each.id].bytes if each.id in documents else 0,
        )
        for each in page.items
    ]
    return Page(items, page.next_cursor)


def _by_command_line(user_id: UUID, *, is_operator: bool) -> AuditEntry:
    """Say what was done by somebody on the server itself, whom no account names."""
    return AuditEntry(
        action="admin.change_user",
        status=HTTPStatus.OK,
        address="",
        client=audit.COMMAND_LINE,
        request_id="",
        object_id=str(user_id),
        details={"is_operator": is_operator},
    )


async def _find_places(
    session: AsyncSession, user_ids: Sequence[UUID]
) -> Mapping[UUID, list[OrganizationRole]]:
    rows = await session.execute(
        select(Membership.user_id, Organization.id, Organization.name, Membership.role)
        .join(Organization, Organization.id == Membership.org_id)
        .where(Membership.user_id.in_(user_ids))
        .order_by(Membership.created_at)
    )
    places: dict[UUID, list[OrganizationRole]] = {}
    for user_id, org_id, name, role in rows:
        places.setdefault(user_id, []).append(OrganizationRole(org_id, name, MemberRole(role)))
    return places
