"""Documents, their pages and chunks, and the embeddings of the chunks."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import HalfVec
from app.models.base import Base, Timestamped
from app.models.document_metadata import Value

# Of one organization in one embedding space. Up to here an exact scan is fast enough (see
# `bench.recall`) and complete; a partition gets its HNSW index when an organization in it has more.
EXACT_SCAN_MAX_CHUNKS = 40_000


class Visibility(StrEnum):
    SHARED = "shared"  # with everybody in the organization
    PRIVATE = "private"  # to who uploaded it


class DocumentStatus(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"


class IngestionStage(StrEnum):
    PARSING = "parsing"
    OCR = "ocr"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    INDEXING = "indexing"


class Document(Timestamped, Base):
    """An uploaded file and how far its ingestion is.

    `filename`, `media_type`, `size_bytes` and `sha256` are those of `version`, the newest content.
    Readers see the chunks of `generation` (0: none yet), which were made from `ready_version`, and
    the name and type that go with it. A worker that claims the document raises `lease_token` and
    may write only while the row still holds its token. What it has committed of the generation in
    the making is `checkpoint_chunks` chunks, and `checkpoint_digest` says what they were made of.
    `attempts` counts the claims since the last checkpoint. `private_to` is the one user who sees
    it, None where all of the organization do; migration 0014 has the fences.
    """

    __tablename__ = "documents"
    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'processing', 'ready', 'failed', 'deleting')", name="status"
        ),
        CheckConstraint("status <> 'ready' OR chunk_count > 0", name="ready_has_chunks"),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_code"),
        CheckConstraint("(generation > 0) = (ready_version > 0)", name="visible_has_version"),
        CheckConstraint("jsonb_typeof(metadata) = 'object'", name="metadata_is_object"),
        CheckConstraint("private_to = uploaded_by", name="private_to_uploader"),
        # The same bytes are one document of all who share them, and one of each user, until it is
        # deleted.
        Index(
            "uq_documents_org_id_sha256_private_to",
            "org_id",
            "sha256",
            "private_to",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(
            "ix_documents_org_id_private_to",
            "org_id",
            "private_to",
            postgresql_where=text("private_to IS NOT NULL"),
        ),
        Index("ix_documents_org_id_created_at_id", "org_id", "created_at", "id"),
        Index("ix_documents_org_id_updated_at", "org_id", "updated_at"),
        Index(
            "ix_documents_expires_at",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL AND deleted_at IS NULL"),
        ),
        Index(
            "ix_documents_pending",
            "status",
            "queued_at",
            postgresql_where=text("status IN ('queued', 'processing', 'deleting')"),
        ),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    uploaded_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    private_to: Mapped[UUID | None]
    # When it was shared before: others may still show it.
    made_private_at: Mapped[datetime | None]
    filename: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    title: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    ready_version: Mapped[int] = mapped_column(default=0, server_default="0")
    ready_filename: Mapped[str | None] = mapped_column(Text)
    ready_media_type: Mapped[str | None] = mapped_column(Text)
    # What the uploader says about it; see `app/models/document_metadata.py`.
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, server_default="{}")
    # SQLAlchemy keeps the bare name for itself.
    metadata_: Mapped[dict[str, Value]] = mapped_column(
        "metadata", JSONB, default=dict, server_default="{}"
    )

    status: Mapped[DocumentStatus] = mapped_column(Text, default=DocumentStatus.QUEUED)
    stage: Mapped[IngestionStage | None] = mapped_column(Text)
    percent: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    pages_done: Mapped[int] = mapped_column(default=0, server_default="0")
    pages_total: Mapped[int | None]
    page_count: Mapped[int | None]
    warning_count: Mapped[int] = mapped_column(default=0, server_default="0")
    chunk_count: Mapped[int] = mapped_column(default=0, server_default="0")
    generation: Mapped[int] = mapped_column(default=0, server_default="0")
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)

    lease_token: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    lease_expires_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    checkpoint_chunks: Mapped[int] = mapped_column(default=0, server_default="0")
    checkpoint_digest: Mapped[bytes | None] = mapped_column(LargeBinary)
    # For an encrypted file, until it has been read. See `app/core/sealing.py`.
    sealed_password: Mapped[bytes | None] = mapped_column(LargeBinary)
    queued_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    @property
    def visibility(self) -> Visibility:
        return Visibility.SHARED if self.private_to is None else Visibility.PRIVATE


class VersionStatus(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


class DocumentVersion(Base):
    """One of the contents that a document has had. A trigger on `documents` writes it.

    Besides the codes of ingestion, `error_code` is `superseded` where the next version came before
    this one was ready. Counts are those of a version that got ready. Versions older than this
    table lack their size or `ready_at`.
    """

    __tablename__ = "document_versions"
    __table_args__ = (
        CheckConstraint("status IN ('queued', 'processing', 'ready', 'failed')", name="status"),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="failed_has_code"),
        ForeignKeyConstraint(
            ["org_id", "document_id"], ["documents.org_id", "documents.id"], ondelete="CASCADE"
        ),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    filename: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    uploaded_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    ready_at: Mapped[datetime | None]
    status: Mapped[VersionStatus] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(Text)
    page_count: Mapped[int | None]
    chunk_count: Mapped[int | None]


class StoredPage(Base):
    """The cleaned text of one page: what spans and quotes count in.

    `label` is the page's printed name, where that is not its number.
    """

    __tablename__ = "pages"
    __table_args__ = (
        ForeignKeyConstraint(["org_id", "document_id"], ["documents.org_id", "documents.id"]),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    width: Mapped[float | None]
    height: Mapped[float | None]
    source: Mapped[str] = mapped_column(Text, server_default="text_layer")
    warnings: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    label: Mapped[str | None] = mapped_column(Text)


class OcrPage(Timestamped, Base):
    """A page that has no text of its own, while its document is being ingested.

    `text` is NULL until the page was read. `headings` is flat: start, end and level of each.
    """

    __tablename__ = "ocr_pages"
    __table_args__ = (
        ForeignKeyConstraint(["org_id", "document_id"], ["documents.org_id", "documents.id"]),
        Index("ix_ocr_pages_pending", "created_at", postgresql_where=text("text IS NULL")),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None] = mapped_column(Text)
    headings: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")
    warning: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    lease_token: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    lease_expires_at: Mapped[datetime | None]


class StoredChunk(Base):
    """A passage. `spans` is flat: page number, start, end of the first span, then of the next.

    `tsv` also holds one lexeme made of `org_id`, so that the index finds one organization's rows.
    """

    __tablename__ = "chunks"
    __table_args__ = (
        ForeignKeyConstraint(["org_id", "document_id"], ["documents.org_id", "documents.id"]),
        UniqueConstraint("org_id", "document_id", "generation", "ordinal"),
        Index(
            "ix_chunks_tsv",
            "tsv",
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
        ),
    )

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID]
    generation: Mapped[int]
    ordinal: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    spans: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    page_start: Mapped[int]
    page_end: Mapped[int]
    heading: Mapped[str | None] = mapped_column(Text)
    token_count: Mapped[int]
    tsv: Mapped[Any] = mapped_column(TSVECTOR)


class Lexeme(Base):
    """In how many visible chunks of shared documents a lexeme stands; '' counts the chunks.

    `token_count` is of '' alone: how many tokens these chunks have.
    """

    __tablename__ = "lexemes"

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    lexeme: Mapped[str] = mapped_column(Text, primary_key=True)
    chunk_count: Mapped[int]
    token_count: Mapped[int | None] = mapped_column(BigInteger)


class PrivateLexeme(Base):
    """A `Lexeme` of the documents that are private to a user."""

    __tablename__ = "private_lexemes"

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    lexeme: Mapped[str] = mapped_column(Text, primary_key=True)
    chunk_count: Mapped[int]
    token_count: Mapped[int | None] = mapped_column(BigInteger)


class EmbeddingSpace(Base):
    """Vectors that may be compared: one provider, model and number of dimensions."""

    __tablename__ = "embedding_spaces"
    __table_args__ = (UniqueConstraint("provider", "model", "dimensions"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    dimensions: Mapped[int]


class ChunkEmbedding(Base):
    """A chunk's unit vector. One partition a space, made by `ensure_embedding_space()`."""

    __tablename__ = "chunk_embeddings"
    __table_args__ = (
        ForeignKeyConstraint(["org_id", "document_id"], ["documents.org_id", "documents.id"]),
        Index("ix_chunk_embeddings_org_id_document_id", "org_id", "document_id"),
        {"postgresql_partition_by": "LIST (space_id)"},
    )

    space_id: Mapped[int] = mapped_column(ForeignKey("embedding_spaces.id"), primary_key=True)
    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    chunk_id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID]
    generation: Mapped[int]
    embedding: Mapped[Any] = mapped_column(HalfVec)
