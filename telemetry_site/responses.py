"""JSON answers, written by msgspec: it takes UUIDs, moments and dataclasses as they are."""

from typing import Any

import msgspec
from django.http import HttpResponse


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> HttpResponse:
    """An answer with `content` as its JSON body."""
    return HttpResponse(
        msgspec.json.encode(content),
        status=status,
        content_type="application/json",
        headers=headers,
    )
