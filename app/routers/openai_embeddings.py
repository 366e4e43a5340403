"""Embeddings in the shape of OpenAI's API.

The models are those that could embed documents here: the local one, and what the providers list.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from app.accounts.principal import Principal
from app.core.connection import while_served
from app.core.errors import InvalidRequest
from app.core.text import AnyText
from app.core.tokens import EstimatingTokenizer, count_tokens
from app.dependencies import EmbeddingCaller, ResourcesDep, charge_more
from app.llm.base import EmbeddingProvider, FloatMatrix
from app.llm.model_names import may_use
from app.llm.registry import model_not_found
from app.resources import Resources
from app.routers.openai_shapes import LABELS, leave_known, unsupported_value
from app.usage.plans import Feature

router = APIRouter(prefix="/v1", tags=["openai"])

MAX_INPUTS = 2_048
MAX_TOKENS = 300_000
# Trained so that the beginning of a vector is a shorter vector.
_SHORTENED = "text-embedding-3"
# What vendors say of how many dimensions their vectors have.
_PUBLISHED = {
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
    "gemini-embedding-001": 3_072,
}


def _refuse_tokens(value: object) -> object:
    """Raises InvalidRequest for numbers, which are tokens of a vocabulary that is not known."""
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, int | list) for item in items):
        raise InvalidRequest(
            "input: it can only be a string or a list of strings here, not tokens.",
            code="unsupported_value",
            param="input",
        )
    return items


Input = Annotated[AnyText, Field(min_length=1, max_length=1_000_000)]


class EmbeddingRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: AnyText = Field(min_length=1, max_length=200)
    input: Annotated[
        list[Input],
        BeforeValidator(_refuse_tokens),
        Field(min_length=1, max_length=MAX_INPUTS, description="Or one string."),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(
        default=None,
        ge=1,
        le=8_192,
        description="Fewer than the model's own only of models that are made for it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_supported(cls, body: object) -> object:
        return leave_known(body, cls.model_fields, only_values={}, labels=LABELS | {"user"})

    @field_validator("input")
    @classmethod
    def _none_is_blank(cls, texts: list[str]) -> list[str]:
        if not all(text.strip() for text in texts):
            raise ValueError("a text in it is blank")
        return texts


class EmbeddingOut(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(
        description="A unit vector: numbers, or the base64 of 32-bit floats, little-endian."
    )


class EmbeddingUsageOut(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingListOut(BaseModel):
    object: Literal["list"] = "list"
    data: list[EmbeddingOut]
    model: str = Field(description="`provider/model`.")
    usage: EmbeddingUsageOut


@router.post("/embeddings")
async def create_embeddings(
    body: EmbeddingRequest, request: Request, caller: EmbeddingCaller, resources: ResourcesDep
) -> EmbeddingListOut:
    """Embed texts as documents are embedded, each as a unit vector. Nothing is kept."""
    name, model = await _find_model(body.model, caller, resources)
    embedder = resources.embedders.get_filler(name, model)
    if body.dimensions is not None:
        known = await embedder.find_dimensions() or _PUBLISHED.get(model)
        _check_dimensions(body.dimensions, known, model=model)
    tokens = await _count(embedder.provider, body.input)
    await charge_more(request, resources, caller, Feature.EMBEDDING, inputs=len(body.input))
    meter = resources.ledger.meter(caller)
    vectors = await while_served(request, embedder.embed_documents(body.input, meter=meter))
    vectors = _shorten(vectors, body.dimensions, model=model)
    return EmbeddingListOut(
        data=[
            EmbeddingOut(index=index, embedding=_encode(vector, body.encoding_format))
            for index, vector in enumerate(vectors)
        ],
        model=f"{name}/{model}",
        usage=EmbeddingUsageOut(prompt_tokens=tokens, total_tokens=tokens),
    )


async def _find_model(wanted: str, caller: Principal, resources: Resources) -> tuple[str, str]:
    """Return provider and model of an id, with or without its provider.

    Raises NotFound (`model_not_found`); for what the caller's API key may not use in the same words
    whether it is there or not.
    """
    found = await resources.models.find_embedding_models(wanted)
    allowed = [id_ for id_ in found if may_use(id_, caller.allowed_models)]
    if not allowed and not (caller.allowed_models is None or wanted in caller.allowed_models):
        raise model_not_found(wanted, "this API key may not use it")
    if not allowed:
        raise model_not_found(wanted, "no configured provider has it to embed with")
    provider, _, model = allowed[0].partition("/")
    return provider, model


async def _count(provider: EmbeddingProvider, texts: Sequence[str]) -> int:
    """Return how many tokens the texts have; exact where the model's tokenizer is at hand.

    Raises InvalidRequest (`context_length_exceeded`) where a text is too long, or all are.
    """
    counts = await asyncio.to_thread(
        lambda: [count_tokens(text, provider.tokenizer) for text in texts]
    )
    is_exact = not isinstance(provider.tokenizer, EstimatingTokenizer)
    if is_exact and max(counts) > provider.max_input_tokens:
        raise _too_long(
            f"The model takes {provider.max_input_tokens:,} tokens, but text "
            f"{counts.index(max(counts))} of the input has {max(counts):,}."
        )
    if sum(counts) > MAX_TOKENS:
        raise _too_long(f"The input has more than {MAX_TOKENS:,} tokens: send it in parts.")
    return sum(counts)


def _too_long(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="context_length_exceeded", param="input")


def _check_dimensions(wanted: int, own: int | None, *, model: str) -> None:
    """Raise InvalidRequest for a number of dimensions that vectors of a model can't have.

    `own` is how many they have, None where that shows in the answer only.
    """
    if own is None or wanted == own:
        return
    if wanted > own or not model.startswith(_SHORTENED):
        raise unsupported_value("dimensions", f"{own}, the model's own,")


def _shorten(vectors: FloatMatrix, dimensions: int | None, *, model: str) -> FloatMatrix:
    """Raises InvalidRequest for a number of dimensions that the model's vectors can't have."""
    own = vectors.shape[1]
    if dimensions is None or dimensions == own:
        return vectors
    _check_dimensions(dimensions, own, model=model)
    cut = vectors[:, :dimensions]
    # What has nothing there stays nothing: it is no direction.
    norms = np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    shortened: FloatMatrix = cut / norms
    return shortened


def _encode(vector: np.ndarray, encoding_format: str) -> list[float] | str:
    if encoding_format == "float":
        numbers: list[float] = vector.tolist()
        return numbers
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
