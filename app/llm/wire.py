"""What the adapters of remote models share: deadlines, lines, kinds of failure, estimated usage."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeVar

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.metrics import PROVIDER_ERRORS
from app.core.tokens import TOKENS_PER_MESSAGE, EstimatingTokenizer, count_tokens
from app.llm.base import ChatRequest, Finish, FinishReason, Message, Timeouts, Usage

T = TypeVar("T")

MAX_LINE_BYTES = 1024 * 1024
# Reading the end of the body keeps the connection for the next call; it is nearly always there.
DRAIN_TIMEOUT_S = 0.25

_ESTIMATOR = EstimatingTokenizer()
_MESSAGES = {
    ProviderErrorKind.AUTH: "refused the installation's credentials.",
    ProviderErrorKind.QUOTA: "says that its account has no credit left.",
    ProviderErrorKind.RATE_LIMITED: "limits the installation's requests; try again later.",
    ProviderErrorKind.OVERLOADED: "is overloaded or failing; try again later.",
    ProviderErrorKind.TIMEOUT: "did not answer in time.",
    ProviderErrorKind.UNREACHABLE: "can't be reached.",
    ProviderErrorKind.TRUNCATED: "ended its answer early.",
    ProviderErrorKind.PROTOCOL: "sent an answer that can't be read.",
    ProviderErrorKind.CONTEXT_LENGTH: "can't take a text of this length.",
    ProviderErrorKind.BAD_REQUEST: "refused the request.",
    ProviderErrorKind.MODEL_NOT_FOUND: "does not have the model.",
}
_KIND_BY_STATUS = {
    401: ProviderErrorKind.AUTH,
    402: ProviderErrorKind.QUOTA,
    403: ProviderErrorKind.AUTH,
    404: ProviderErrorKind.MODEL_NOT_FOUND,
    408: ProviderErrorKind.TIMEOUT,
    409: ProviderErrorKind.OVERLOADED,
    413: ProviderErrorKind.CONTEXT_LENGTH,
    504: ProviderErrorKind.TIMEOUT,
}
# Vendors have no common code for "too long" or "too many"; these are the phrases of OpenAI, vLLM,
# Ollama, and of the embedding servers that speak OpenAI's format.
_CONTEXT_PHRASES = (
    "context_length",
    "context length",
    "context window",
    "maximum context",
    "max_tokens_per_request",
    "too many tokens",
    "too large",
    "too long",
    "too many inputs",
    "batch size",
    "in one batch",
    "per submitted batch",
)
# A vendor's limit per minute that this one request exceeds: no wait helps.
_OVER_LIMIT_PHRASE = "request too large"
_QUOTA_PHRASES = ("billing", "credit")
_RATE_PHRASES = ("rate_limit", "rate limit")
# Longer is no wait, and an endless one no number for a header.
_MAX_RETRY_AFTER_S = 86_400.0


class StreamClock:
    """The deadlines of one streamed answer; starts when it is made. Close it: it is a context.

    Comments and keep-alives are not chunks: they never move a deadline. It has one timer, which is
    set anew when it rings too early: a timer for each chunk costs more than to read the chunk.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_s = timeouts.idle_s
        now = self._loop.time()
        self._total_at = now + timeouts.total_s
        self._deadline = min(self._total_at, now + timeouts.first_content_s)
        self._has_content = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._waiting: asyncio.Task[Any] | None = None
        self._has_rung = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def saw_chunk(self, *, has_content: bool) -> None:
        """Start the next pause. Call it right before reading on: the consumer's time is free."""
        self._has_content = self._has_content or has_content
        if self._has_content:
            self._deadline = min(self._total_at, self._loop.time() + self._idle_s)

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Return the awaitable's result. Raises TimeoutError when a deadline passes first."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        cancelling = task.cancelling()
        if self._rings_at > self._deadline:
            self._set_timer()
        self._waiting = task
        try:
            result = await awaitable
        except asyncio.CancelledError as exc:
            # Where somebody else cancels too, it is no timeout.
            if self._stop_waiting(task) and task.cancelling() <= cancelling:
                raise TimeoutError from exc
            raise
        except BaseException:
            self._stop_waiting(task)
            raise
        self._stop_waiting(task)
        return result

    def _stop_waiting(self, task: "asyncio.Task[Any]") -> bool:
        """Return whether the deadline had passed, and take back that it cancelled the task."""
        self._waiting = None
        has_rung, self._has_rung = self._has_rung, False
        if has_rung:
            task.uncancel()
        return has_rung

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        if self._waiting is None:
            return  # the next wait sets it
        if self._loop.time() < self._deadline:
            self._set_timer()
            return
        self._has_rung = True
        self._waiting.cancel()


class LineSplitter:
    """Cuts a byte stream into lines, without their ends. Raises ValueError on an endless line."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, block: bytes) -> list[bytes]:
        """Return the lines that this block completes, in order."""
        head, newline, rest = block.partition(b"\n")
        if not newline:
            self._keep(block)
            return []
        lines = [b"".join((*self._parts, head)), *rest.split(b"\n")]
        self._parts, self._size = [], 0
        self._keep(lines.pop())
        return lines

    def end(self) -> bytes:
        """Return what came after the last line end."""
        return b"".join(self._parts)

    def _keep(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._size += len(part)
        if self._size > MAX_LINE_BYTES:
            raise ValueError("a line without end")


class StreamedAnswer:
    """What has been read of one streamed answer, line by line. A subclass knows the format.

    `is_done` is set by the format's terminal marker, `has_content` by the first text or thought.
    """

    def __init__(self, request: ChatRequest, provider: str) -> None:
        self.is_done = False
        self.has_content = False
        self._request = request
        self._provider = provider
        self._lines = LineSplitter()
        self._texts: list[str] = []
        self._chunks = self._chunks_timed = 0
        self._is_at_end = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to read, with or without the terminal marker."""
        return self.is_done or self._is_at_end

    @property
    def text(self) -> str:
        return "".join(self._texts)

    async def read_on(
        self, clock: StreamClock, read: Callable[[], Awaitable[bytes]]
    ) -> Iterator[str]:
        """Wait for the next bytes; return an iterator over the non-empty texts in them, in order.

        The iterator raises what the format's reading raises, after the texts that came before.
        """
        # Only chunks move the deadline: comments and blank lines are none.
        if self._chunks > self._chunks_timed:
            self._chunks_timed = self._chunks
            clock.saw_chunk(has_content=self.has_content)
        block = await clock.wait(read())
        self._is_at_end = not block
        return self._texts_in(self._lines.feed(block) if block else [self._lines.end()])

    def _texts_in(self, lines: Sequence[bytes]) -> Iterator[str]:
        for line in lines:
            if text := self._read_line(line):
                yield text

    def _read_line(self, line: bytes) -> str:
        """Return the text of a line, or "". Counts a chunk in `_chunks`."""
        raise NotImplementedError

    def _take(self, text: object, *, is_thinking: bool = False) -> str:
        """Keep and return the text of a chunk, if it has one. A model that thinks is alive."""
        if not text:
            self.has_content = self.has_content or is_thinking
            return ""
        if not isinstance(text, str):
            raise TypeError("content is no text")
        self.has_content = True
        self._texts.append(text)
        return text


def read_event(line: bytes) -> bytes:
    """Return the data in a line of an event stream, b"" for comments and other fields.

    Also an error as plain JSON, from servers that ignored that a stream was asked for. Raises
    ValueError for a line of HTML.
    """
    if line.startswith(b"data:"):
        return line[5:].strip()
    if line.startswith(b"{"):
        return line
    if line.lstrip()[:1] == b"<":
        raise ValueError("HTML instead of events")
    return b""


@contextmanager
def counted_errors() -> Iterator[None]:
    """Count the ProviderError that passes through."""
    try:
        yield
    except ProviderError as error:
        PROVIDER_ERRORS.labels(provider=error.provider, kind=error.kind.value).inc()
        raise


def provider_error(
    kind: ProviderErrorKind,
    provider: str,
    *,
    model: str = "",
    message: str | None = None,
    retry_after_s: float | None = None,
) -> ProviderError:
    """Return the error of a kind, with words of ours: the vendor's may quote keys or prompts.

    `model`, where it is known, is named if the provider does not have it.
    """
    words = _MESSAGES[kind]
    if kind is ProviderErrorKind.MODEL_NOT_FOUND and model:
        words = f"does not have the model {model}."
    return ProviderError(
        message or f"The model provider {provider} {words}",
        kind=kind,
        provider=provider,
        retry_after_s=retry_after_s,
    )


def failure_kind(status: int | None, detail: str) -> ProviderErrorKind:
    """Tell the kind of a failed call from its status and the vendor's code, type and message.

    `status` is None for an error inside a 200.
    """
    detail = detail.lower()
    if status == 429:
        return _limit_kind(detail)
    if status in _KIND_BY_STATUS:
        return _KIND_BY_STATUS[status]
    if status is not None and status < 400:  # a redirect that is not followed
        return ProviderErrorKind.PROTOCOL
    if any(phrase in detail for phrase in _CONTEXT_PHRASES):
        return ProviderErrorKind.CONTEXT_LENGTH
    if status is None:
        return _kind_by_words(detail)
    return ProviderErrorKind.OVERLOADED if status >= 500 else ProviderErrorKind.BAD_REQUEST


def _limit_kind(detail: str) -> ProviderErrorKind:
    """Tell what a 429 is about. OpenAI's ordinary rate limits link to its billing page, too."""
    if "insufficient_quota" in detail:
        return ProviderErrorKind.QUOTA
    if _OVER_LIMIT_PHRASE in detail:
        return ProviderErrorKind.CONTEXT_LENGTH
    is_rate = any(phrase in detail for phrase in _RATE_PHRASES)
    if not is_rate and any(phrase in detail for phrase in _QUOTA_PHRASES):
        return ProviderErrorKind.QUOTA
    return ProviderErrorKind.RATE_LIMITED


def _kind_by_words(detail: str) -> ProviderErrorKind:
    if "insufficient_quota" in detail:
        return ProviderErrorKind.QUOTA
    if any(phrase in detail for phrase in _RATE_PHRASES):
        return ProviderErrorKind.RATE_LIMITED
    if "model_not_found" in detail or ("model" in detail and "not found" in detail):
        return ProviderErrorKind.MODEL_NOT_FOUND
    if "invalid_request" in detail:
        return ProviderErrorKind.BAD_REQUEST
    return ProviderErrorKind.OVERLOADED


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that `retry-after-ms` or `retry-after` name, or None.

    At most a day; a date in the past is 0.
    """
    try:
        wait_s = _named_wait_s(headers)
    except (ValueError, OverflowError):
        return None
    if wait_s is None or math.isnan(wait_s):
        return None
    return min(_MAX_RETRY_AFTER_S, max(0.0, wait_s))


def _named_wait_s(headers: Mapping[str, str]) -> float | None:
    if milliseconds := headers.get("retry-after-ms"):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.replace(".", "", 1).isdigit():
        return float(value)
    return (_parse_date(value) - datetime.now(UTC)).total_seconds()


def _parse_date(value: str) -> datetime:
    moment = parsedate_to_datetime(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def estimate_prompt_tokens(messages: Sequence[Message]) -> int:
    return sum(TOKENS_PER_MESSAGE + count_tokens(m.content, _ESTIMATOR) for m in messages)


def usage_or_estimate(
    input_tokens: object,
    output_tokens: object,
    *,
    messages: Sequence[Message],
    text: str,
    cached_input_tokens: object = 0,
) -> Usage:
    """Return the vendor's numbers, or estimates in place of what is missing or no number."""
    known_input, known_output = _count(input_tokens), _count(output_tokens)
    return Usage(
        estimate_prompt_tokens(messages) if known_input is None else known_input,
        count_tokens(text, _ESTIMATOR) if known_output is None else known_output,
        is_estimated=known_input is None or known_output is None,
        cached_input_tokens=min(_count(cached_input_tokens) or 0, known_input or 0),
    )


def finish_answer(finish: Finish, text: str, provider: str) -> Finish:
    """Return the end of an answer, or raise ProviderError (PROTOCOL) for one without any text.

    With nothing said, only the content filter and the limit on length are ends.
    """
    if finish.reason is FinishReason.STOP and not text.strip():
        raise provider_error(
            ProviderErrorKind.PROTOCOL,
            provider,
            message=f"The model provider {provider} gave an empty answer.",
        )
    return finish


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None
