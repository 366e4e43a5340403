"""Which addresses count as public, and which URLs are taken at all."""

import ipaddress
import socket

import pytest

from app.core.errors import UnprocessableRequest
from app.webhooks.addresses import BlockedAddress, check_url, is_public, open_public_socket

PRIVATE = (
    *("127.0.0.1", "127.8.8.8", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "192.0.2.1"),
    *("198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::1"),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "fec0::1", "3fff::1"),
    # Where clouds answer their machines.
    *("192.0.0.192", "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110"),
)
PUBLIC = ("1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101")


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_blocked_at_the_socket(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(BlockedAddress):
        open_public_socket((family, socket.SOCK_STREAM, 6, "", (address, 443)))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_get_a_socket(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        open_public_socket((family, socket.SOCK_STREAM, 6, "", (address, 443))).close()
    except OSError as error:  # a machine without IPv6
        assert not isinstance(error, BlockedAddress)


@pytest.mark.parametrize(
    "url",
    [
        *("", "hook", "ftp://example.com/", "//example.com", "https://", "https:///path"),
        *("https://user@example.com/", "https://user:secret@example.com/", "https://a.example/#x"),
        *("https://exa mple.com/", "https://example.com/\n", "https://example.com:port/"),
        *(
            "https://example.com\\@evil.example/",
            "https://ex\u00e4mple.com/",
            "javascript:alert(1)",
        ),
        "https://example.com/" + "a" * 2_000,
    ],
)
@pytest.mark.parametrize("allows_private", [True, False])
def test_odd_urls_are_refused(url: str, allows_private: bool) -> None:
    with pytest.raises(UnprocessableRequest):
        check_url(url, allows_private=allows_private)


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://127.0.0.1/", "https://[::1]/", "https://10.1.2.3:8443/"]
)
def test_production_wants_https_and_no_private_address(url: str) -> None:
    assert check_url(url, allows_private=True) == url
    with pytest.raises(UnprocessableRequest):
        check_url(url, allows_private=False)
