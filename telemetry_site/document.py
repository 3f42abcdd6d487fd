"""`/api/schema/`: the OpenAPI document, and beside it a page to read it on."""

from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.views import APIView

from telemetry_site.openapi import EXAMPLE_DAY

# The page fetches nothing from elsewhere, and the browser sees to it. Swagger UI sets styles on its
# elements and draws its icons as data.
_OURS_ONLY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DocumentView(APIView):
    """`GET /api/schema/`: the document, as JSON."""

    authentication_classes = []
    schema = None  # not a part of what it describes

    def get(self, request: Request) -> HttpResponse:
        yesterday = timezone.now().date() - timedelta(days=1)
        return HttpResponse(document(yesterday), content_type="application/json")


class PageView(APIView):
    """`GET /api/schema/docs/`: the document to read and to try out, in Swagger UI."""

    authentication_classes = []
    schema = None

    def get(self, request: Request) -> HttpResponse:
        page = render(request._request, "telemetry_site/openapi.html")
        page["Content-Security-Policy"] = _OURS_ONLY
        return page


@lru_cache(maxsize=1)
def document(day: date) -> bytes:
    """The document, with examples of that day: old events are refused, so examples must not age."""
    # Megabytes that a process does without until somebody reads the document.
    from drf_spectacular.generators import SchemaGenerator

    generator: Any = SchemaGenerator
    content = generator().get_schema(public=True)
    return msgspec.json.encode(content).replace(EXAMPLE_DAY.encode(), str(day).encode())
