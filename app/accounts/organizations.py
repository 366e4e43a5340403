"""What an organization has decided for itself."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import NotFound
from app.models.accounts import Organization


async def get_organization(session: AsyncSession, org_id: UUID) -> Organization:
    """Raises NotFound."""
    organization = await session.scalar(select(Organization).where(Organization.id == org_id))
    if organization is None:
        raise NotFound("There is no such organization.")
    return organization


async def change_organization(
    session: AsyncSession,
    org_id: UUID,
    *,
    system_prompt: str | None = None,
    rejects_injections: bool | None = None,
) -> Organization:
    """Change what is not None; it holds from the next question on. Raises NotFound."""
    organization = await get_organization(session, org_id)
    if system_prompt is not None:
        organization.system_prompt = system_prompt
    if rejects_injections is not None:
        organization.rejects_injections = rejects_injections
    await session.flush()
    return organization
