"""Uvicorn's faster HTTP parser, with the limit on headers that it lacks.

httptools gathers whatever does not end: a header, a trailer, the extension of a chunk.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# An access token in the URL of an EventSource and long cookies are legitimate.
MAX_HEADER_BYTES = 65_536


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers 400 to more than MAX_HEADER_BYTES of headers and trailers, or of what is neither."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._header_bytes = 0  # of this request
        self._pending_bytes = 0  # came since anything of a request was whole

    def data_received(self, data: bytes) -> None:
        if self._pending_bytes > MAX_HEADER_BYTES:
            if not self.transport.is_closing():
                self.send_400_response("The headers are too long.")
            return
        self._pending_bytes += len(data)
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; but a whole one before it is answered first."""
        cycle = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        super().send_400_response(msg)

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._pending_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending_bytes = 0
        super().on_message_complete()

    def _count(self, *parts: bytes) -> None:
        """Raises ValueError, which the parser takes for a request that is none."""
        self._header_bytes += sum(map(len, parts))
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("the headers are too long")
