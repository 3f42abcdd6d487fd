"""Which headers a destination may be given. Pure.

They hold secrets: what is wrong with one is told by its name alone.
"""

import re
from collections.abc import Mapping

from ingest.forwarding.networks import InvalidDestination

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
# Visible ASCII, blanks and tabs between: a line's end would begin another header.
_VALUE = re.compile(r"(?:[!-~](?:[ -~\t]*[!-~])?)?")
_LONGEST_VALUE = 4096
# What frames the request, and what is in it, is told by whoever sends it.
_OURS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "expect", "host",
        "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise InvalidDestination unless all of `headers` can be sent."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise InvalidDestination("A header's name is of letters, digits and hyphens.")
        if name.lower() in _OURS:
            raise InvalidDestination(f"The header {name} can't be set: it depends on what is sent.")
        if len(value) > _LONGEST_VALUE or not _VALUE.fullmatch(value):
            raise InvalidDestination(f"The value of the header {name} must be a line of ASCII.")
