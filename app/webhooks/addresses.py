"""Where a webhook may lead: a customer's URL must not reach what only we can reach."""

import ipaddress
import socket
from typing import Any
from urllib.parse import SplitResult, urlsplit

from app.core.errors import UnprocessableRequest

_MAX_URL_CHARS = 2_000
# A translator on the way makes IPv4 of it (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

# Not of the public internet, though `ipaddress` says so of them in some versions of Python: clouds
# answer their machines at 192.0.0.192 (Oracle) and 168.63.129.16 (Azure), fec0::/10 is what private
# networks had before fc00::/7, 3fff::/20 is for documentation.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "168.63.129.16/32", "fec0::/10", "3fff::/20")
)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class BlockedAddress(OSError):
    """The host's address is not one of the public internet."""


def check_url(url: str, *, allows_private: bool) -> str:
    """Return a URL that may be called as far as can be told without asking for its address.

    Raises UnprocessableRequest (`invalid_webhook_url`). `allows_private` takes http too.
    """
    parts = _split(url)
    if parts.scheme not in (("https", "http") if allows_private else ("https",)):
        raise _invalid(f"it must begin with {'http:// or ' * allows_private}https://")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise _invalid("it must name a host, and no user")
    if parts.fragment:
        raise _invalid("it must have no fragment")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return url
    if not allows_private and not is_public(address):
        raise _invalid("its address is private")
    return url


def is_public(address: IPAddress) -> bool:
    """Say whether an address is one of the public internet, also one that hides in another."""
    if isinstance(address, ipaddress.IPv6Address):
        hidden = address.ipv4_mapped or address.sixtofour
        if hidden is None and address in _NAT64:
            hidden = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if hidden is not None:
            return is_public(hidden)
        if address.teredo is not None:
            return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def open_public_socket(
    address_info: tuple[int, int, int, str, tuple[Any, ...]],
) -> socket.socket:
    """Return a socket for an address as `getaddrinfo` gives it. Raises BlockedAddress.

    The very address that is connected to is looked at: between a look at the name and the
    connection the name could come to mean another.
    """
    family, kind, protocol, _, where = address_info
    # A zone is of this machine's networks alone.
    if not is_public(ipaddress.ip_address(str(where[0]).partition("%")[0])):
        raise BlockedAddress("not a public address")
    return socket.socket(family, kind, protocol)


def _split(url: str) -> SplitResult:
    has_odd_characters = not url.isascii() or any(char <= " " or char in '\\"<>' for char in url)
    if len(url) > _MAX_URL_CHARS or has_odd_characters:
        raise _invalid("it is no plain URL")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError as error:
        raise _invalid("it is no URL") from error
    return parts


def _invalid(reason: str) -> UnprocessableRequest:
    return UnprocessableRequest(f"url: {reason}.", code="invalid_webhook_url", param="url")
