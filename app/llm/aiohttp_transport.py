"""HTTP for the OpenAI SDK by aiohttp: its parser is in C, and a body is read without layers."""

from collections.abc import AsyncIterator, Mapping
from typing import cast
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2

_BODY = "aiohttp_body"
# aiohttp has decoded the body, and cookies of a vendor are nobody's.
_DROPPED_HEADERS = frozenset({b"content-encoding", b"set-cookie"})


class Body(httpx2.AsyncByteStream):
    """The decoded body of an open response."""

    def __init__(self, response: aiohttp.ClientResponse, request: httpx2.Request) -> None:
        self._response = response
        self._content = response.content
        self._request = request

    async def read_available(self) -> bytes:
        """Wait for the next bytes; empty at the end. Raises httpx2.ReadError when it breaks."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as exc:
            raise httpx2.ReadError("The body broke off.", request=self._request) from exc

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while block := await self.read_available():
            yield block

    async def aclose(self) -> None:
        """Close the socket, unless the body was read to its end: then it serves the next call."""
        self._response.close()


def body_of(response: httpx2.Response) -> Body:
    """Return the body of a response that came through AiohttpTransport and is not read yet."""
    return cast(Body, response.extensions[_BODY])


async def stay_with_origin(response: httpx2.Response) -> None:
    """Take away where a redirect leads to, if that is another origin. A hook of httpx2 clients."""
    if not response.has_redirect_location:
        return
    asked = response.request.url
    target = asked.join(response.headers["Location"])
    if (asked.scheme, asked.host, asked.port) != (target.scheme, target.host, target.port):
        del response.headers["Location"]


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Times only the connecting; the caller times the rest.

    Certificates and proxies are those that httpx2 takes from the environment by itself. Any number
    of connections may be open: each streamed answer has its own. Opens nothing before it is used.
    """

    def __init__(self, *, connect_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._proxies: Mapping[str, str] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises httpx2.ConnectTimeout, or httpx2.ConnectError for all before the headers."""
        if self._session is None:
            self._session = self._open_session()
            # Once: it looks through the whole environment.
            self._proxies = getproxies()
        content = await request.aread()
        # httpx2 has made a header of the name and the password.
        url = request.url.copy_with(userinfo=b"") if request.url.userinfo else request.url
        try:
            response = await self._session.request(
                request.method,
                str(url),
                headers=request.headers.multi_items(),
                data=content or None,
                allow_redirects=False,  # httpx2 follows them
                proxy=_proxy_for(url, self._proxies),
            )
        except TimeoutError as exc:
            raise httpx2.ConnectTimeout("No connection in time.", request=request) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise httpx2.ConnectError("No answer.", request=request) from exc
        body = Body(response, request)
        return httpx2.Response(
            response.status,
            headers=[
                (name, value)
                for name, value in response.raw_headers
                if name.lower() not in _DROPPED_HEADERS
            ],
            stream=body,
            extensions={_BODY: body},
        )

    def _open_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=httpx2.create_ssl_context()),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout_s),
            trust_env=False,  # it would look for passwords in ~/.netrc
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_send_once,),
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _send_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Raise what aiohttp does not try again after: by itself it sends a GET twice."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise aiohttp.ClientConnectionError("The connection failed.") from exc


def _proxy_for(url: httpx2.URL, proxies: Mapping[str, str]) -> str | None:
    if not proxies or proxy_bypass(url.host):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
