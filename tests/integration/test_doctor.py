"""The doctor and a database of one's own: it connects as the product does."""

from app.config import Settings
from app.local.doctor import Finding, Verdict, check_all


def postgres_finding(database_url: str) -> Finding:
    settings = Settings(
        _env_file=None, database_url=database_url, ollama_base_url="http://127.0.0.1:9"
    )
    return next(found for found in check_all(settings) if found.subject == "postgres")


def test_a_url_in_the_usual_form_reaches_the_database(database_url: str) -> None:
    usual = database_url.replace("postgresql+asyncpg://", "postgres://")
    found = postgres_finding(f"{usual}&sslmode=prefer&channel_binding=prefer")
    assert found.verdict is Verdict.OK, found
    assert "DATABASE_URL answers" in found.detail


def test_a_wrong_password_and_a_closed_port_are_failures(database_url: str) -> None:
    for url in (database_url.replace("footnote:", "footnote:x", 1), "postgresql://127.0.0.1:9/x"):
        found = postgres_finding(url)
        assert found.verdict is Verdict.FAIL
        assert "cannot be reached" in found.detail
