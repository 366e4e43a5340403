"""Which stage of a stream a sample of the API's stack belongs to."""

from collections import Counter
from collections.abc import Mapping, Sequence

READ, FILTER, LOG, REDIS, SEND, DATABASE, LOOP, OTHER = STAGES = (
    "read the provider",
    "filter and citations",
    "log, coalesce, feed readers",
    "Redis",
    "send SSE",
    "Postgres",
    "event loop, socket writes",
    "other",
)
# The first that is found in a file's path decides; the innermost function that has one.
_PLACES = (
    ("/redis/", REDIS),
    ("/app/core/redis", REDIS),
    ("/asyncpg/", DATABASE),
    ("/sqlalchemy/", DATABASE),
    ("/httpcore2/", READ),
    ("/httpx2/", READ),
    ("/openai/", READ),
    ("/app/llm/", READ),
    ("/sse_starlette/", SEND),
    ("/starlette/", SEND),
    ("/uvicorn/protocols/", SEND),
    ("/app/core/sse", SEND),
    ("/app/middleware", SEND),
    ("/app/routers/", SEND),
    ("/app/chat/citations", FILTER),
    ("/app/core/markers", FILTER),
    ("/app/chat/quotes", FILTER),
    ("/app/chat/support", FILTER),
    ("/app/chat/agreement", FILTER),
    ("/app/chat/pipeline", FILTER),
    ("/app/chat/", LOG),
)
_RUNNERS = ("/asyncio/runners.py:", "/uvicorn/server.py:", "/uvloop/")


def stage_of(stack: str) -> str:
    """`stack`: functions as `path:name`, innermost first, with `;` between."""
    functions = stack.split(";")
    if any(place in functions[0] for place in _RUNNERS):
        return LOOP
    for function in functions:
        for place, stage in _PLACES:
            if place in function:
                return stage
    return OTHER


def top_functions(stacks: Mapping[str, int], count: int) -> Sequence[tuple[str, int]]:
    """Return the functions in which most samples fell, themselves, with their numbers."""
    own: Counter[str] = Counter()
    for stack, samples in stacks.items():
        own["/".join(stack.split(";", 1)[0].split("/")[-2:])] += samples
    return own.most_common(count)
