"""A language model that knows the answers it was told and finds what they cite."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.provider_server import Failure, ProviderServer, Reply

_CHAT_PATH = "/v1/chat/completions"
_QUESTION = "Question: "
_SOURCE = re.compile(r'<source n="(\d+)"[^>]*>\n(.*?)\n</source>', re.DOTALL)
_CITED = re.compile(r"\[\[(.+?)\]\]", re.DOTALL)


@dataclass
class Librarian(ProviderServer):
    """Answers by question, word by word. `[[words]]` cites the first source that has these words.

    What it was not told it does not know, and says so in `default`. Told to fail, it fails.
    """

    default: Reply = field(default_factory=lambda: Reply(text="I was not told."))
    openai_models: tuple[str, ...] = ("gpt-4.1-mini",)
    answers: dict[str, str] = field(default_factory=dict)
    word_delay_s: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        self._is_free = asyncio.Event()
        self._is_free.set()

    def hold(self) -> None:
        """Stop each answer in its middle until `go_on()`."""
        self._is_free.clear()

    def go_on(self) -> None:
        self._is_free.set()

    async def _begin(self, request: web.Request) -> tuple[dict[str, Any], Reply]:
        body, reply = await super()._begin(request)
        if request.path != _CHAT_PATH or reply.failure is not Failure.NONE:
            return body, reply
        prompt = str(body["messages"][-1]["content"])
        answer = self.answers.get(prompt.rpartition(_QUESTION)[2].strip())
        return body, reply if answer is None else Reply(text=_cite(answer, prompt))

    async def _stream(
        self, request: web.Request, reply: Reply, *, content_type: str, lines: list[bytes], **_: Any
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)

        async def send() -> None:
            for number, line in enumerate(lines):
                if number == len(lines) // 2:
                    await self._is_free.wait()
                await response.write(line)
                await asyncio.sleep(self.word_delay_s)
            await response.write_eof()

        await self._watch(send())
        return response


def _cite(answer: str, prompt: str) -> str:
    """Put a source's number in the place of each `[[words]]`; nothing where no source has them."""
    sources = [(number, _fold(text)) for number, text in _SOURCE.findall(prompt)]

    def find(match: re.Match[str]) -> str:
        words = _fold(match[1])
        return next((f"[{number}]" for number, text in sources if words in text), "")

    return _CITED.sub(find, answer)


def _fold(text: str) -> str:
    return " ".join(text.split())
