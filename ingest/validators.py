"""What an operator's entries must keep to."""

import ipaddress
import re
from typing import Any

from django.core.exceptions import ValidationError

from ingest.forwarding.networks import InvalidDestination, check_url
from ingest.rules import InvalidRate, check_overrides
from privacy.rules import InvalidRules, Rules

_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_USUAL_PORTS = {"https": "443", "http": "80"}
# The widest network that may be blocked: wider ones are mistakes.
_FEWEST_BITS = {4: 8, 6: 16}


def validate_origins(value: list[str]) -> None:
    """Origins as browsers send them: scheme and host, a port where it isn't the usual one."""
    for origin in value:
        match = _ORIGIN.fullmatch(origin)
        if match is None or match["port"] == _USUAL_PORTS[match["scheme"]]:
            raise ValidationError(f"{origin!r} isn't an origin, such as https://app.example.com")


def validate_rates(value: Any) -> None:
    """A project's own limits: known rules, readable rates."""
    try:
        check_overrides(value)
    except InvalidRate as error:
        raise ValidationError(str(error)) from None


def validate_privacy_rules(value: Any) -> None:
    """A project's privacy rules: readable ones, within bounds."""
    try:
        Rules.parse(value)
    except InvalidRules as error:
        raise ValidationError(str(error)) from None


def validate_endpoint(value: str) -> None:
    """Where a project's own collector is: a URL on the internet."""
    try:
        check_url(value)
    except InvalidDestination as error:
        raise ValidationError(str(error)) from None


def validate_network(value: str) -> None:
    """A network's prefix as `ipaddress` writes it, narrow enough to be meant."""
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        raise ValidationError(
            f"{value!r} isn't a network, such as 203.0.113.0/24 or 2001:db8:1::/48"
        ) from None
    if isinstance(network, ipaddress.IPv6Network):
        if network.network_address.ipv4_mapped:
            raise ValidationError("Write an IPv4 network as such: 203.0.113.0/24")
        if network.network_address.scope_id:
            raise ValidationError("Leave out what stands behind the %: it is this machine's own.")
    if network.prefixlen < _FEWEST_BITS[network.version]:
        fewest = _FEWEST_BITS[network.version]
        raise ValidationError(
            f"{value} is too wide: an IPv{network.version} network has /{fewest} or more."
        )
