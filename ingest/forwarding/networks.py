"""Where a destination's URL leads, and which addresses a project's own may reach. Pure.

Whoever may set up a project must not be able to make this machine talk to its own network.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>(?:{_LABEL}\.)*{_LABEL}\.?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]*)?",
    re.IGNORECASE,
)
_LONGEST_NAME = 253

# IANA's registries of special-purpose addresses, multicast, and what clouds hide behind others.
_NOT_PUBLIC = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's host, with keys of the machine
    )
)  # fmt: skip
# All that is routed is in here, and in it nothing but this is special. 6to4 (2002::) and Teredo
# (2001::/32) wrap IPv4 addresses, and no collector stands behind such a tunnel.
_ROUTED = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_IPV6 = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# Of networks without IPv4: the last 32 bits are the address that is reached.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class InvalidDestination(ValueError):
    """A destination that can't be used; says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads. `host` is a name or an address, without brackets."""

    scheme: str
    host: str
    port: int
    path: str


def place_of(url: str) -> Place:
    """The one reading of a URL: what was checked is what is asked. Raises InvalidDestination."""
    if "#" in url:
        raise InvalidDestination("Leave out what stands behind the # in the URL.")
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise InvalidDestination("A name and a password belong into a header, not into the URL.")
    match = _URL.fullmatch(url)
    if match is None or len(match["host"]) > _LONGEST_NAME:
        raise InvalidDestination("The URL must be such as https://collector.example.com:4318.")
    scheme, host = match["scheme"].lower(), match["host"].lower()
    port = int(match["port"]) if match["port"] else _PORTS[scheme]
    if not 1 <= port <= 65_535:
        raise InvalidDestination("The URL's port must be from 1 to 65535.")
    if host.startswith("[") and not _is_ipv6(host[1:-1]):
        raise InvalidDestination("What stands in brackets in the URL must be an IPv6 address.")
    return Place(scheme, host.strip("[]"), port, match["path"] or "/")


def check_url(url: str) -> None:
    """Raise InvalidDestination unless a project's own destination may be at `url`.

    Of a name it is asked at each connection where it leads; of an address, however it is written,
    it is known at once.
    """
    host = place_of(url).host.rstrip(".")
    is_ours = host == "localhost" or host.endswith(".localhost")
    if is_ours or not all(map(is_public, _addresses_written_as(host))):
        raise InvalidDestination(NOT_PUBLIC)


NOT_PUBLIC = "The URL leads to an address that isn't public."


def is_public(address: Address) -> bool:
    """Whether anybody on the internet may be asked there."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _ROUTED and not any(address in network for network in _NOT_PUBLIC_IPV6)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _addresses_written_as(host: str) -> list[Address]:
    """The address that `host` is, as the system reads it: `0x7f.1` is one too. No name is asked."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return []
    return [ipaddress.ip_address(str(address[0])) for *_, address in found]
