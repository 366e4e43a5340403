"""What the benchmarks of streams hold against an answer, and how they name what it costs."""

import hashlib
from typing import Any

import pytest

from bench.profile_stages import FILTER, LOOP, OTHER, READ, SEND, stage_of, top_functions
from bench.stand_in import STAMP_MODULUS, Pace, age_ms, parse_pace
from bench.stream_clients import check_text


def done_for(text: str, **changes: Any) -> dict[str, Any]:
    return {
        "status": "completed",
        "usage": {"output_tokens": len(text.split())},
        "answer_sha256": hashlib.sha256(text.encode()).hexdigest(),
        **changes,
    }


@pytest.mark.parametrize("text", ["", "5 ", "5 6 6 900 ", f"{STAMP_MODULUS - 2} 3 "])
def test_a_whole_answer_is_right(text: str) -> None:
    assert check_text(text, done_for(text)) == []


def test_what_is_wrong_with_an_answer() -> None:
    whole = done_for("5 6 7 ")
    assert check_text("5 7 ", whole) == [
        "the text has another hash than `done` says",
        "2 tokens of 3",
    ]
    assert check_text("6 5 7 ", done_for("6 5 7 ")) == ["tokens are out of order"]


def test_a_partial_answer_may_be_short_but_has_its_hash() -> None:
    partial = done_for("5 6 ", status="failed", usage={"output_tokens": 40})
    assert check_text("5 6 ", partial) == []
    assert check_text("5 6 7 ", partial) == ["the text has another hash than `done` says"]


def test_the_age_of_a_token_survives_the_clock_wrapping_around() -> None:
    assert age_ms(100, 130) == 30
    assert age_ms(STAMP_MODULUS - 10, 20) == 30


def test_a_pace_is_read_from_a_models_name() -> None:
    assert parse_pace("paced-20") == Pace(20, None, None)
    assert parse_pace("paced-0.5x400-after50") == Pace(0.5, 400, 0.05)
    with pytest.raises(ValueError, match="gpt"):
        parse_pace("gpt-4.1-mini")


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        ("/lib/json/decoder.py:decode;/x/app/llm/providers/openai.py:_feed_line", READ),
        ("/x/app/chat/citations.py:feed;/x/app/chat/streaming.py:_produce", FILTER),
        ("/y/h11/_writers.py:send_data;/y/uvicorn/protocols/http/h11_impl.py:send", SEND),
        ("/lib/asyncio/runners.py:run;/y/uvicorn/server.py:run", LOOP),
        ("/lib/asyncio/tasks.py:sleep;/x/app/documents/housekeeping.py:run", OTHER),
    ],
)
def test_the_innermost_known_place_names_the_stage(stack: str, stage: str) -> None:
    assert stage_of(stack) == stage


def test_functions_are_counted_by_what_ran_itself() -> None:
    stacks = {"/a/b/c.py:f;/a/b/d.py:g": 3, "/a/b/c.py:f;/e.py:h": 2, "/a/b/d.py:g": 1}
    assert top_functions(stacks, 1) == [("b/c.py:f", 5)]
