"""Which web pages may read our answers: those of the origins that projects list."""

import logging
import re
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from ingest import memory
from telemetry_site.errors import DATABASE_ERRORS

logger = logging.getLogger(__name__)

_LONGEST_ORIGIN = 200
_for_pages = re.compile(settings.CORS_URLS_REGEX).match


def origin_of(request: HttpRequest) -> str:
    """The origin of the page that sends this, empty where none does; one too long is no page's."""
    origin: str = request.META.get("HTTP_ORIGIN", "").lower()
    return origin if len(origin) <= _LONGEST_ORIGIN else "too long"


def is_allowed(request: HttpRequest, **_: Any) -> bool:
    """Whether a browser may show the answer to the page that asked.

    A preflight names no project, so any project's origin will do; the request itself is refused
    where its project doesn't list the origin (see `views`). The library asks for every path: what
    isn't meant for pages, they may not read.
    """
    origin = origin_of(request)
    if not origin or not _for_pages(request.path_info):
        return False
    try:
        return memory.is_origin(origin)
    except DATABASE_ERRORS as error:
        logger.warning("origins can't be looked up: %s", type(error).__name__)
        return False
