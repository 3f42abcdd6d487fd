"""The client's address: what is believed of it, and how much of it may be written down."""

import pytest
from django.http import HttpRequest
from django.test import RequestFactory, override_settings

from ingest.addresses import client_address, coarse_network

# The peer's address -> what a client is told apart by, and what may be written down.
ADDRESSES = {
    "203.0.113.77": ("203.0.113.77", "203.0.113.0/24"),
    "0.0.0.0": ("0.0.0.0", "0.0.0.0/24"),
    "255.255.255.255": ("255.255.255.255", "255.255.255.0/24"),
    "2001:db8:1:2:3:4:5:6": ("2001:db8:1:2::/64", "2001:db8:1::/48"),
    "2001:DB8:1:2::": ("2001:db8:1:2::/64", "2001:db8:1::/48"),
    "::1": ("::/64", "::/48"),
    "fe80::1%eth0": ("fe80::/64", "fe80::/48"),
    # A dual-stack socket writes IPv4 so: one client is one client by either way in.
    "::ffff:203.0.113.77": ("203.0.113.77", "203.0.113.0/24"),
    "::ffff:cb00:714d": ("203.0.113.77", "203.0.113.0/24"),
}
NONE = [
    "", " ", "unknown", "_hidden", "localhost", "203.0.113", "203.0.113.256", "203.0.113.77.1",
    "0xcb.0.113.77", "203.0.113.077", "3405803853", "203.0.113.77/32", "2001:db8::1::2",
    "2001:db8::/64", "::ffff:203.0.113.256", "٢٠٣.0.113.77", "203.0.113.77|x", "203.0.113.77\0",
    "x" * 10_000,
]  # fmt: skip
PEER = "198.51.100.9"


def request(peer: str | None = PEER, forwarded: str | None = None) -> HttpRequest:
    """A request over a connection from `peer`."""
    made = RequestFactory().get("/")
    del made.META["REMOTE_ADDR"]
    if peer is not None:
        made.META["REMOTE_ADDR"] = peer
    if forwarded is not None:
        made.META["HTTP_X_FORWARDED_FOR"] = forwarded
    return made


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_is_told_apart_finely_and_written_down_coarsely(address: str) -> None:
    found = request(address)
    assert (client_address(found), coarse_network(found)) == ADDRESSES[address]


def test_customer_with_many_addresses_is_one_client() -> None:
    one, other = (request(f"2001:db8:1:2::{host}") for host in ("a", "ffff:b"))
    assert client_address(one) == client_address(other)
    assert client_address(one) != client_address(request("2001:db8:1:3::a"))


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_address_is_none(text: str) -> None:
    assert client_address(request(text)) == ""
    assert coarse_network(request(text)) == ""


def test_connection_without_an_address_has_none() -> None:
    assert client_address(request(None)) == ""


# --- behind proxies ---


@pytest.mark.parametrize("forwarded", ["203.0.113.77", "1.2.3.4, 203.0.113.77", "", "garbage"])
def test_header_is_ignored_where_no_proxy_is_configured(forwarded: str) -> None:
    assert client_address(request(forwarded=forwarded)) == PEER


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (1, "203.0.113.77", "203.0.113.77"),
        (1, " 203.0.113.77 ", "203.0.113.77"),
        (1, "2001:db8:1:2::7", "2001:db8:1:2::/64"),
        (2, "203.0.113.77, 192.0.2.1", "203.0.113.77"),
        (2, "203.0.113.77,192.0.2.1", "203.0.113.77"),
        (3, "203.0.113.77, 192.0.2.1,192.0.2.2", "203.0.113.77"),
    ],
)
def test_address_is_the_one_that_the_outermost_proxy_saw(
    proxies: int, forwarded: str, expected: str
) -> None:
    with override_settings(TRUSTED_PROXIES=proxies):
        assert client_address(request(forwarded=forwarded)) == expected


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (1, "6.6.6.6, 203.0.113.77", "203.0.113.77"),
        (1, "6.6.6.6, 7.7.7.7, 8.8.8.8, 203.0.113.77", "203.0.113.77"),
        (2, "6.6.6.6, 203.0.113.77, 192.0.2.1", "203.0.113.77"),
        (1, "6.6.6.6,,,203.0.113.77", "203.0.113.77"),
        (1, "x" * 50_000 + ",203.0.113.77", "203.0.113.77"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_a_client_wrote_before_the_proxies_is_not_believed(
    proxies: int, forwarded: str, expected: str
) -> None:
    with override_settings(TRUSTED_PROXIES=proxies):
        assert client_address(request(forwarded=forwarded)) == expected


@pytest.mark.parametrize(
    ("proxies", "forwarded"),
    [(1, None), (1, ""), (1, " "), (2, "6.6.6.6"), (3, "6.6.6.6, 7.7.7.7"), (2, ", 192.0.2.1")],
)
def test_request_past_the_proxies_is_from_its_peer(proxies: int, forwarded: str | None) -> None:
    """Fewer places than proxies: it didn't come through them, so nothing in it is theirs."""
    with override_settings(TRUSTED_PROXIES=proxies):
        assert client_address(request(forwarded=forwarded)) == PEER


@override_settings(TRUSTED_PROXIES=1)
def test_proxy_that_hides_the_address_gives_none() -> None:
    """Not its own address, which would make all its clients one."""
    assert client_address(request(forwarded="unknown")) == ""
