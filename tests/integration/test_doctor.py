"""The doctor, on a database of one's own and on text recognition."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.config import Settings
from app.local.doctor import Finding, Verdict, check_all

# Nothing listens there.
NOWHERE = "http://127.0.0.1:9"


def postgres_finding(database_url: str) -> Finding:
    settings = Settings(_env_file=None, database_url=database_url, ollama_base_url=NOWHERE)
    return finding("postgres", settings)


def ocr_finding(languages: str) -> Finding:
    settings = Settings(_env_file=None, ocr_languages=languages, ollama_base_url=NOWHERE)
    return finding("text recognition", settings)


def finding(subject: str, settings: Settings) -> Finding:
    return next(found for found in check_all(settings) if found.subject == subject)


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


def test_a_model_that_is_set_but_not_live_is_told_with_what_to_do(database_url: str) -> None:
    async def make_live(model: str) -> None:
        engine = create_async_engine(database_url, poolclass=NullPool)
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM embedding_rollout"))
            await connection.execute(
                text(
                    "INSERT INTO embedding_rollout (live_id)"
                    " SELECT ensure_embedding_space('local', :model, 384)"
                ),
                {"model": model},
            )
        await engine.dispose()

    settings = Settings(_env_file=None, database_url=database_url, ollama_base_url=NOWHERE)
    asyncio.run(make_live("another"))
    try:
        found = finding("embeddings", settings)
    finally:
        asyncio.run(make_live("all-MiniLM-L6-v2"))
    assert found.verdict is Verdict.WARN
    assert "python -m app reembed start local/all-MiniLM-L6-v2" in found.remedy
    assert finding("embeddings", settings).verdict is Verdict.OK


def install_tesseract(folder: Path, monkeypatch: pytest.MonkeyPatch, *languages: str) -> None:
    """Put a program on PATH, alone, that lists these packs as Tesseract does."""
    program = folder / "tesseract"
    listing = "\n".join(["List of available languages:", *languages])
    program.write_text(f"#!/bin/sh\necho '{listing}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_text_recognition_is_told_with_its_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_tesseract(tmp_path, monkeypatch, "deu", "eng", "osd")
    assert ocr_finding("eng+deu") == Finding(
        Verdict.OK, "text recognition", "Tesseract with eng, deu"
    )


@pytest.mark.parametrize(
    ("languages", "detail"),
    [
        ("eng+chi_sim", "Tesseract has eng, not chi_sim"),
        ("chi_sim", "Tesseract has none of the languages, not chi_sim"),
    ],
)
def test_a_language_without_its_pack_is_told_with_the_name_of_the_package(
    languages: str, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_tesseract(tmp_path, monkeypatch, "eng")
    found = ocr_finding(languages)
    assert (found.verdict, found.detail) == (Verdict.WARN, detail)
    assert "apt-get install tesseract-ocr-chi-sim" in found.remedy


def test_a_machine_without_tesseract_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = ocr_finding("eng")
    assert found.verdict is Verdict.WARN
    assert "not installed" in found.detail
    assert "apt-get install tesseract-ocr" in found.remedy


def test_text_recognition_that_is_turned_off_is_no_defect() -> None:
    found = ocr_finding("none")
    assert (found.verdict, found.remedy) == (Verdict.OK, "")
    assert "turned off" in found.detail
