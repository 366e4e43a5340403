"""Network addresses as subjects of limits."""

import ipaddress
from functools import lru_cache

_V6_PREFIX = 64  # what one household or server gets


@lru_cache(maxsize=4_096)
def network_of(host: str, *, v4_prefix: int = 32) -> str:
    """Return the network that counts as one caller: of IPv6 always a /64.

    What is no address, as with a socket of the file system, is `unknown`.
    """
    address = _parse(host)
    if address is None:
        return "unknown"
    prefix = v4_prefix if address.version == 4 else _V6_PREFIX
    return str(ipaddress.ip_network((address, prefix), strict=False))


def is_loopback(host: str) -> bool:
    address = _parse(host)
    return address is not None and address.is_loopback


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
