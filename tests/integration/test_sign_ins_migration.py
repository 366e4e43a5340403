"""Sign-ins from before they were listed."""

from datetime import UTC, datetime

from app.core.ids import new_id
from app.migrations import downgrade, upgrade
from tests.owner_sql import run_sql


def test_a_sign_in_from_before_began_with_its_first_token(database_url: str) -> None:
    other = database_url.replace("/footnote?", "/sign_ins?")
    org, user, family = new_id(), new_id(), new_id()
    try:
        run_sql(database_url, "CREATE DATABASE sign_ins")
        upgrade(other, "0008")
        run_sql(
            other,
            f"INSERT INTO users (id, email, password_hash) VALUES ('{user}', 'a@example.com', '')",
            f"INSERT INTO organizations (id, name) VALUES ('{org}', 'o')",
            f"""
            INSERT INTO refresh_tokens
                (id, org_id, user_id, family_id, token_hash, expires_at, used_at, created_at)
            VALUES
                ('{new_id()}', '{org}', '{user}', '{family}', 'a', '2030-01-01', now(),
                 '2026-01-01T00:00Z'),
                ('{new_id()}', '{org}', '{user}', '{family}', 'b', '2030-01-01', NULL,
                 '2026-01-02T00:00Z')
            """,
        )
        upgrade(other, "0009")
        rows = run_sql(other, "SELECT signed_in_at, client FROM refresh_tokens")
        assert [tuple(row) for row in rows] == [(datetime(2026, 1, 1, tzinfo=UTC), "")] * 2
        downgrade(other, "0008")
        assert len(run_sql(other, "SELECT id FROM refresh_tokens")) == 2
    finally:
        run_sql(database_url, "DROP DATABASE sign_ins")
