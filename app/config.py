"""Settings: every environment variable, with unit and default; `.env.example` lists the same."""

import os
import secrets
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOCAL_EMBEDDING_MODEL = "local/all-MiniLM-L6-v2"
MIN_SECRET_BYTES = 32
# Every value that ever stood in a sample file, so that copying one can't become a signing key.
SAMPLE_SECRETS = frozenset({"change-me-to-at-least-32-random-bytes", "changeme", "secret"})
_DATABASE_SCHEME = "postgresql+asyncpg"
# What asyncpg takes of the options that may follow in a URL; the others are libpq's alone.
_DATABASE_OPTIONS = frozenset(
    {"host", "port", "user", "password", "passfile", "ssl", "target_session_attrs"}
)
LOCAL_CORS_ORIGINS = ("http://localhost:3000", "http://localhost:5173")


class Environment(StrEnum):
    LOCAL = "local"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Read from the environment, then `.env`. Raises ValidationError on a value that can't work."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True)

    app_name: str = "Footnote"
    environment: Environment = Environment.LOCAL
    debug: bool = False
    log_level: str = "INFO"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    data_dir: Path = Path(".data")

    secret_key: SecretStr = SecretStr("")
    access_token_expire_minutes: int = Field(default=15, ge=1, le=1440)
    refresh_token_expire_days: int = Field(default=30, ge=1, le=365)
    cors_origins: str = ""
    public_url: str = ""
    smtp_url: SecretStr = SecretStr("")

    database_url: str = ""
    redis_url: str = ""
    database_pool_size: int = Field(default=10, ge=1, le=100)
    worker_concurrency: int = Field(default=2, ge=1, le=64)
    worker_metrics_port: int = Field(default=0, ge=0, le=65535)
    worker_queues: str = Field(
        default="ingest,purge,ocr", pattern="^(ingest|purge|ocr)(,(ingest|purge|ocr))*$"
    )
    org_documents_in_work: int = Field(default=2, ge=1, le=1000)
    org_queued_documents: int = Field(default=5000, ge=1)
    ocr_languages: str = "eng"

    openai_api_key: SecretStr = SecretStr("")
    openai_base_url: str = "https://api.openai.com/v1"
    azure_openai_endpoint: str = ""
    azure_openai_api_key: SecretStr = SecretStr("")
    azure_openai_api_version: str = "2024-10-21"
    azure_openai_deployments: str = ""
    compatible_base_url: str = ""
    compatible_api_key: SecretStr = SecretStr("")
    openrouter_api_key: SecretStr = SecretStr("")
    openrouter_base_url: str = "https://openrouter.ai/api/v1"
    openrouter_data_collection: Literal["deny", "allow"] = "deny"
    anthropic_api_key: SecretStr = SecretStr("")
    anthropic_base_url: str = "https://api.anthropic.com"
    gemini_api_key: SecretStr = SecretStr("")
    gemini_base_url: str = "https://generativelanguage.googleapis.com"
    ollama_base_url: str = "http://127.0.0.1:11434"
    default_model: str = ""
    embedding_model: str = LOCAL_EMBEDDING_MODEL
    model_connect_timeout_s: float = Field(default=5, ge=0.1, le=60)
    model_first_content_timeout_s: float = Field(default=30, ge=0.1, le=600)
    model_idle_timeout_s: float = Field(default=30, ge=0.1, le=600)
    model_total_timeout_s: float = Field(default=300, ge=1, le=3600)
    tiktoken_cache_dir: Path | None = None
    query_cache_ttl_s: int = Field(default=3600, ge=0)
    query_rewriting: bool = True
    reranker: Literal["", "http", "llm"] = ""
    rerank_url: str = ""
    rerank_model: str = ""
    rerank_api_key: SecretStr = SecretStr("")
    rerank_timeout_s: float | None = Field(default=None, gt=0, le=30)

    run_unread_s: float = Field(default=60, ge=1, le=86_400)
    default_plan: Literal["free", "pro", "enterprise"] = "free"
    unknown_price_ceiling_usd: Decimal = Field(default=Decimal(75), gt=0, le=100_000)
    max_upload_mb: int = Field(default=256, ge=1, le=10_240)
    page_cache_mb: int = Field(default=512, ge=0)
    profile_requests: bool = False

    @field_validator("database_url")
    @classmethod
    def _name_the_driver(cls, url: str) -> str:
        """Take the URLs that other programs take; one that names our driver stays as it is."""
        scheme, _, rest = url.strip().partition("://")
        if not url.strip() or scheme == _DATABASE_SCHEME:
            return url.strip()
        if scheme not in ("postgresql", "postgres"):
            raise ValueError("it must begin with postgresql://")
        address, _, query = rest.partition("?")
        named = [("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(query)]
        options = urlencode([pair for pair in named if pair[0] in _DATABASE_OPTIONS], safe="/:")
        return f"{_DATABASE_SCHEME}://{address}" + (f"?{options}" if options else "")

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str) -> str:
        address = urlsplit(url.strip())
        if url.strip() and (address.scheme not in ("http", "https") or not address.hostname):
            raise ValueError("it must be the address of the web app, like https://example.com")
        return url.strip().rstrip("/")

    @field_validator("smtp_url")
    @classmethod
    def _check_smtp_url(cls, url: SecretStr) -> SecretStr:
        address = urlsplit(url.get_secret_value().strip())
        if not url.get_secret_value().strip():
            return SecretStr("")
        sender = parse_qs(address.query).get("from", [""])[0]
        is_server = address.scheme in ("smtp", "smtps") and address.hostname and address.port != 0
        if not is_server or "@" not in sender:
            raise ValueError(
                "it must be like smtp://user:password@mail.example.com:587?from=app@example.com"
            )
        return SecretStr(url.get_secret_value().strip())

    @field_validator("rerank_url")
    @classmethod
    def _check_rerank_url(cls, url: str) -> str:
        address = urlsplit(url.strip())
        if url.strip() and (address.scheme not in ("http", "https") or not address.hostname):
            raise ValueError("it must be the whole address, like http://127.0.0.1:8080/rerank")
        return url.strip()

    @model_validator(mode="after")
    def _refuse_reranker_without_address(self) -> Self:
        if self.reranker == "http" and not self.rerank_url:
            raise ValueError(
                "RERANKER is http, but RERANK_URL is empty: set the address of the server, "
                "like http://127.0.0.1:8080/rerank"
            )
        return self

    @model_validator(mode="after")
    def _refuse_mail_without_address(self) -> Self:
        """What is in a mail must lead here, and the `Host` of a request is anybody's to write."""
        if self.is_production and self.smtp_url.get_secret_value() and not self.public_url:
            raise ValueError(
                "SMTP_URL is set, but PUBLIC_URL is empty: set the address that links in mails "
                "begin with, like https://example.com"
            )
        return self

    @model_validator(mode="after")
    def _refuse_weak_secrets(self) -> Self:
        """In production a missing, short or sample secret stops the start."""
        secret = self.secret_key.get_secret_value()
        if not secret and self.environment is Environment.LOCAL:
            return self
        if secret.lower() in SAMPLE_SECRETS:
            raise ValueError(
                "SECRET_KEY is the sample value: generate one with `openssl rand -hex 32`"
            )
        if len(secret.encode()) < MIN_SECRET_BYTES or len(set(secret)) < 8:
            raise ValueError(
                f"SECRET_KEY must be at least {MIN_SECRET_BYTES} random bytes: "
                "generate one with `openssl rand -hex 32`"
            )
        return self

    @property
    def is_production(self) -> bool:
        return self.environment is Environment.PRODUCTION

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """Browser origins that may call the API; the usual dev servers in local mode."""
        listed = tuple(origin.strip() for origin in self.cors_origins.split(",") if origin.strip())
        return listed or (() if self.is_production else LOCAL_CORS_ORIGINS)

    @property
    def azure_deployments(self) -> tuple[str, ...]:
        """The chat deployments that AZURE_OPENAI_DEPLOYMENTS names."""
        listed = self.azure_openai_deployments.split(",")
        return tuple(name.strip() for name in listed if name.strip())

    @property
    def link_base(self) -> str:
        """What links to the web app begin with, without a slash at the end.

        Empty in production without PUBLIC_URL: such links begin with the path.
        """
        if self.public_url or self.is_production:
            return self.public_url
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def max_upload_bytes(self) -> int:
        return self.max_upload_mb * 1024 * 1024

    @property
    def page_cache_bytes(self) -> int:
        return self.page_cache_mb * 1024 * 1024

    @cached_property
    def signing_key(self) -> str:
        """The secret that signs access tokens.

        In local mode it is generated once and kept in `DATA_DIR/secret_key` with mode 0600.
        """
        return self.secret_key.get_secret_value() or _read_or_create_secret(
            self.data_dir / "secret_key"
        )


def _read_or_create_secret(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # O_EXCL: of two processes that start at once, one creates the file and the other reads it.
        with open(path, "x", opener=_open_private) as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    return path.read_text().strip()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
