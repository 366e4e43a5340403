"""What a vendor's status, words and headers mean."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from app.core.errors import ProviderErrorKind
from app.llm.wire import failure_kind, parse_retry_after

K = ProviderErrorKind
# OpenAI's ordinary limit per minute, as a new account meets it.
BUSY = (
    "rate_limit_exceeded requests Rate limit reached for text-embedding-3-small on requests per"
    " min. Limit: 3 / min. Please try again in 20s. Visit https://platform.openai.com/account/billing"
    " to add a payment method."
)
SPENT = (
    "insufficient_quota insufficient_quota You exceeded your current quota, please check your plan"
    " and billing details."
)


@pytest.mark.parametrize(
    ("status", "detail", "kind"),
    [
        (401, "", K.AUTH),
        (403, "", K.AUTH),
        (402, "", K.QUOTA),
        (429, SPENT, K.QUOTA),
        (429, "Your credit balance is too low", K.QUOTA),
        (429, BUSY, K.RATE_LIMITED),
        (429, "", K.RATE_LIMITED),
        (429, "rate_limit_exceeded Request too large for gpt on tokens per min", K.CONTEXT_LENGTH),
        (413, "", K.CONTEXT_LENGTH),
        (400, "Invalid 'input': array too long. Expected at most 2048", K.CONTEXT_LENGTH),
        (400, "This model's maximum context length is 8192 tokens", K.CONTEXT_LENGTH),
        (400, "the input length exceeds the context length", K.CONTEXT_LENGTH),
        (400, "At most 100 requests can be in one batch", K.CONTEXT_LENGTH),
        (400, "max allowed tokens per submitted batch is 120000", K.CONTEXT_LENGTH),
        (422, "batch size 100 > maximum allowed batch size 32", K.CONTEXT_LENGTH),
        (400, "unknown field", K.BAD_REQUEST),
        (502, "<html>bad gateway</html>", K.OVERLOADED),
        (504, "", K.TIMEOUT),
        (None, "rate limit", K.RATE_LIMITED),
        (None, "insufficient_quota", K.QUOTA),
    ],
)
def test_failure_has_its_kind(status: int | None, detail: str, kind: ProviderErrorKind) -> None:
    assert failure_kind(status, detail) is kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after-ms": "-5"}, 0.0),
        ({"retry-after": "9" * 400}, 86_400.0),
        ({"retry-after-ms": "inf"}, 86_400.0),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 +99999999999999"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_nothing(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)

    seconds = parse_retry_after({"retry-after": at})

    assert seconds is not None
    assert 500 < seconds <= 600
