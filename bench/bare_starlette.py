"""The least that a server could do: Starlette sending the same frames, from no model and no log.

python -m bench.bare_starlette --port 9200
"""

import argparse
import asyncio
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bench.stand_in import stamp_now


class Pace:
    """How fast all streams go, and when they end."""

    rate = 5.0
    finish_at = float("inf")
    tokens = 0


async def send_events(_request: Request) -> Response:
    return StreamingResponse(_frames(), media_type="text/event-stream")


async def _frames() -> AsyncIterator[str]:
    answer: list[str] = []
    offset, number = 0, 1
    yield f"id: {number}\n{_data({'type': 'start'})}"
    due = time.monotonic() + random.uniform(0, 1 / Pace.rate)
    while time.monotonic() < Pace.finish_at:
        await asyncio.sleep(due - time.monotonic())
        due += 1 / Pace.rate
        token = f"{stamp_now():07} "
        number += 1
        yield f"id: {number}\n{_data({'type': 'token', 'token': token, 'offset': offset})}"
        answer.append(token)
        offset += len(token)
        Pace.tokens += 1
    done = {
        "type": "done",
        "done": True,
        "status": "completed",
        "usage": {"output_tokens": len(answer)},
        "answer_sha256": hashlib.sha256("".join(answer).encode()).hexdigest(),
    }
    yield f"id: {number + 1}\n{_data(done)}"


def _data(frame: dict[str, object]) -> str:
    return f"data: {json.dumps(frame, separators=(',', ':'))}\n\n"


async def set_rate(request: Request) -> Response:
    Pace.rate = (await request.json())["rate"]
    return JSONResponse({})


async def finish(request: Request) -> Response:
    Pace.finish_at = time.monotonic() + (await request.json())["over_s"]
    return JSONResponse({})


async def stats(_request: Request) -> Response:
    return JSONResponse({"tokens": Pace.tokens, "at": time.monotonic()})


app = Starlette(
    routes=[
        Route("/events", send_events),
        Route("/_rate", set_rate, methods=["POST"]),
        Route("/_finish", finish, methods=["POST"]),
        Route("/_stats", stats, methods=["POST"]),
    ]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    # As app/__main__.py runs the product.
    uvicorn.run(app, port=options.port, loop="uvloop", http="httptools", log_level="warning")


if __name__ == "__main__":
    main()
