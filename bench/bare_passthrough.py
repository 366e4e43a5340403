"""The least that a gateway can do: hand a completion on to the provider, and its answer back.

python -m bench.bare_passthrough --port 9200 --upstream http://127.0.0.1:9100/v1
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def make_app(upstream: str) -> Starlette:
    async def complete(request: Request) -> Response:
        session: aiohttp.ClientSession = request.app.state.session
        answer = await session.post(f"{upstream}/chat/completions", data=await request.body())

        async def read() -> AsyncIterator[bytes]:
            async with answer:
                async for block in answer.content.iter_any():
                    yield block

        return StreamingResponse(read(), answer.status, media_type=answer.content_type)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            app.state.session = session
            yield

    routes = [Route("/v1/chat/completions", complete, methods=["POST"])]
    return Starlette(routes=routes, lifespan=lifespan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    options = parser.parse_args()
    app = make_app(options.upstream)
    # As app/__main__.py runs the product.
    uvicorn.run(app, port=options.port, loop="uvloop", http="httptools", log_level="warning")


if __name__ == "__main__":
    main()
