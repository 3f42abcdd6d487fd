"""Where a request comes from."""

import ipaddress
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest

# Bits of an address that one client may be told apart by: a provider gives each IPv6 customer 64.
_CLIENT_BITS = {4: 32, 6: 64}
# Bits that an operator may see: whom to call, but not who it was.
COARSE_BITS = {4: 24, 6: 48}


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def whole_address(request: HttpRequest) -> Address | None:
    """The client's address, all its bits, to be compared with and never to be written down.

    From the connection; behind `TELEMETRY_TRUSTED_PROXIES` proxies from as many places before the
    end of `X-Forwarded-For`: what stands further left anybody may have written.
    """
    return _parsed(_claimed(request))


def client_address(request: HttpRequest) -> str:
    """The client's address (of IPv6 its /64), as text; empty where there is none."""
    return _network(_claimed(request), coarse=False)


def coarse_network(request: HttpRequest) -> str:
    """The prefix of the client's address that may be written down: /24, of IPv6 /48."""
    return _network(_claimed(request), coarse=True)


def _claimed(request: HttpRequest) -> str:
    peer: str = request.META.get("REMOTE_ADDR", "")
    proxies = settings.TRUSTED_PROXIES
    if not proxies:
        return peer
    hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    return hops[-proxies] if len(hops) >= proxies and hops[-proxies] else peer


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=4096)
def _network(text: str, *, coarse: bool) -> str:
    bits = COARSE_BITS if coarse else _CLIENT_BITS
    address = _parsed(text)
    if address is None:
        return ""
    prefix = bits[address.version]
    if prefix == address.max_prefixlen:
        return str(address)
    return str(ipaddress.ip_network((address, prefix), strict=False))
