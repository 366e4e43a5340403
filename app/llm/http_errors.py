"""What HTTP clients and odd bodies raise, as ProviderError."""

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import httpx2

from app.core.errors import ProviderErrorKind
from app.llm.wire import provider_error

# ValueError covers bad JSON and bad UTF-8, the others a body of another shape.
_ODD_BODY = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


@contextmanager
def translated_sdk_http_errors(provider: str) -> Iterator[None]:
    """Turn what a vendor's SDK lets through into ProviderError; its own errors pass.

    Over `open_http_client` these are httpx2's errors, and those of reading an odd body.
    """
    try:
        yield
    except (httpx2.TimeoutException, TimeoutError) as exc:
        raise provider_error(ProviderErrorKind.TIMEOUT, provider) from exc
    except httpx2.ConnectError as exc:
        raise provider_error(ProviderErrorKind.UNREACHABLE, provider) from exc
    except httpx2.RequestError as exc:  # after the headers, while reading the body
        raise provider_error(ProviderErrorKind.TRUNCATED, provider) from exc
    except (httpx2.InvalidURL, *_ODD_BODY) as exc:
        raise provider_error(ProviderErrorKind.PROTOCOL, provider) from exc


@contextmanager
def translated_aiohttp_errors(provider: str, *, unreachable: str | None = None) -> Iterator[None]:
    """Turn what aiohttp and odd bodies raise into ProviderError.

    `unreachable` is the message for a server that can't be reached.
    """
    try:
        yield
    except TimeoutError as exc:  # aiohttp's own too
        raise provider_error(ProviderErrorKind.TIMEOUT, provider) from exc
    except aiohttp.ClientPayloadError as exc:  # after the headers, while reading the body
        raise provider_error(ProviderErrorKind.TRUNCATED, provider) from exc
    except (aiohttp.ClientConnectionError, OSError) as exc:
        raise provider_error(ProviderErrorKind.UNREACHABLE, provider, message=unreachable) from exc
    except (aiohttp.ClientError, *_ODD_BODY) as exc:
        raise provider_error(ProviderErrorKind.PROTOCOL, provider) from exc
