"""Settings: what is documented is what there is, and a weak secret stops the start."""

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import SAMPLE_SECRETS, Environment, Settings

ROOT = Path(__file__).parents[2]
GOOD_SECRET = "9f2c4e6a8b0d1f3a5c7e9b1d3f5a7c9e1b3d5f7a9c1e3b5d"


def make(**values: object) -> Settings:
    return Settings.model_validate(values)


def test_the_example_lists_exactly_the_settings() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    names = [line.split("=")[0] for line in lines if line and not line.startswith("#")]
    assert sorted(names) == sorted(name.upper() for name in Settings.model_fields)


def test_the_example_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    shown = Settings(_env_file=ROOT / ".env.example")
    assert shown.model_dump() == Settings(_env_file=None).model_dump()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("", ""),
        ("postgres://me:pw@db:5432/notes", "postgresql+asyncpg://me:pw@db:5432/notes"),
        (
            "postgresql://db/notes?sslmode=require&channel_binding=require",
            "postgresql+asyncpg://db/notes?ssl=require",
        ),
        (
            "postgresql://me:a%2Fb@/notes?host=/run/pg",
            "postgresql+asyncpg://me:a%2Fb@/notes?host=/run/pg",
        ),
        ("postgresql+asyncpg://db/notes?ssl=require", "postgresql+asyncpg://db/notes?ssl=require"),
    ],
)
def test_the_usual_forms_of_a_database_url_work(given: str, used: str) -> None:
    assert make(database_url=given).database_url == used


@pytest.mark.parametrize("url", ["sqlite:///notes.db", "mysql://db/notes", "db:5432/notes"])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="must begin with postgresql://"):
        make(database_url=url)


@pytest.mark.parametrize("secret", ["", "short", "a" * 64, *sorted(SAMPLE_SECRETS)])
def test_production_refuses_a_missing_short_or_sample_secret(secret: str) -> None:
    with pytest.raises(ValidationError, match="SECRET_KEY"):
        make(environment=Environment.PRODUCTION, secret_key=secret)


def test_production_takes_a_good_secret_and_allows_no_origin() -> None:
    settings = make(environment=Environment.PRODUCTION, secret_key=GOOD_SECRET)
    assert settings.signing_key == GOOD_SECRET
    assert settings.allowed_origins == ()
    assert GOOD_SECRET not in repr(settings)


def test_local_mode_refuses_a_weak_secret_too() -> None:
    with pytest.raises(ValidationError, match="SECRET_KEY"):
        make(secret_key="weak")


def test_local_mode_generates_a_private_secret_once(tmp_path: Path) -> None:
    first = make(data_dir=tmp_path / "data").signing_key
    again = make(data_dir=tmp_path / "data").signing_key
    assert first == again
    assert len(first) == 64
    mode = (tmp_path / "data" / "secret_key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_origins_are_listed_or_the_usual_local_ones() -> None:
    assert make().allowed_origins == ("http://localhost:3000", "http://localhost:5173")
    listed = make(cors_origins="https://a.example, https://b.example,")
    assert listed.allowed_origins == ("https://a.example", "https://b.example")
