"""What an operator's entries must keep to."""

import re
from typing import Any

from django.core.exceptions import ValidationError

from ingest.rules import InvalidRate, check_overrides

_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_USUAL_PORTS = {"https": "443", "http": "80"}


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
