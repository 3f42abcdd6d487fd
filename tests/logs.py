"""What a service has logged so far, as objects."""

import json
from collections.abc import Iterator
from typing import Any

from tests.harness import Service


def entries(service: Service, **fields: Any) -> Iterator[dict[str, Any]]:
    """The lines that are objects with these fields."""
    for line in list(service.lines):
        if line.startswith("{"):
            entry: dict[str, Any] = json.loads(line)
            if fields.items() <= entry.items():
                yield entry
