"""One request to a customer's address."""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from app.webhooks.addresses import BlockedAddress, open_public_socket

TIMEOUT_S = 10.0
_MAX_RETRY_AFTER_S = 3600.0
_USER_AGENT = "Footnote-Webhooks/1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. Without an answer `status_code` is None and `error` is a code."""

    status_code: int | None
    error: str | None
    duration_ms: int
    retry_after_s: float = 0.0

    @property
    def is_delivered(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


class WebhookSender:
    """Sends requests. Opens nothing before the first; follows no redirect, keeps no connection.

    Without `allows_private` only addresses of the public internet are connected to.
    """

    def __init__(self, *, allows_private: bool, timeout_s: float = TIMEOUT_S) -> None:
        self.allows_private = allows_private
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """POST the body. Raises nothing for what the other end does."""
        started = time.monotonic()
        status_code, error, retry_after_s = None, None, 0.0
        try:
            async with self._open_session().post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                status_code = response.status
                retry_after_s = _seconds(response.headers.get("Retry-After", ""))
                if not 200 <= status_code < 300:
                    error = "redirected" if 300 <= status_code < 400 else "refused"
        except TimeoutError:
            error = "timeout"
        except (aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as failure:
            error = _name(failure)
        elapsed_ms = round(1000 * (time.monotonic() - started))
        return Outcome(status_code, error, elapsed_ms, retry_after_s)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                use_dns_cache=False,
                force_close=True,
                socket_factory=None if self.allows_private else open_public_socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                headers={"User-Agent": _USER_AGENT, "Content-Type": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
                # A proxy would do the connecting, and look at no address.
                trust_env=False,
            )
        return self._session


def _name(failure: BaseException) -> str:
    """Return a code; the text of a failure may tell what our network looks like."""
    seen: BaseException | None = failure
    while seen is not None:
        if isinstance(seen, BlockedAddress):
            return "blocked_address"
        seen = getattr(seen, "os_error", None) or seen.__cause__
    if isinstance(failure, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls_failed"
    if isinstance(failure, aiohttp.ClientConnectorDNSError):
        return "unknown_host"
    if isinstance(failure, aiohttp.InvalidURL | ValueError):
        return "invalid_url"
    return "connection_failed"


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), _MAX_RETRY_AFTER_S) if retry_after.isdecimal() else 0.0
