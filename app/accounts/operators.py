"""Who operates this deployment. Granted on its own machine, never by a route."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.accounts.users import normalize_email

_SET = text("UPDATE users SET is_operator = :is_operator WHERE email = :email RETURNING id")


async def set_operator(database_url: str, email: str, *, is_operator: bool) -> bool:
    """Make the user an operator, or no longer one; noticed within 5 s. False for an unknown one.

    Connects as the owner. Raises UnprocessableRequest for what can't be an address.
    """
    engine = create_async_engine(database_url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            values = {"email": normalize_email(email), "is_operator": is_operator}
            return await connection.scalar(_SET, values) is not None
    finally:
        await engine.dispose()
