"""The request id, and the access log: no query strings, no user headers, no bodies."""

import logging
import re
import time
from collections.abc import Callable
from uuid import uuid4

from django.http import HttpRequest, HttpResponse

logger = logging.getLogger("telemetry.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class RequestLog:
    """Gives each request its id (`request.id`), echoes it, and logs one line when it is answered.

    What succeeds is logged at DEBUG where a client posts (thousands a minute look alike), at INFO
    elsewhere; refusals at INFO, 5xx at WARNING.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        request.META["telemetry.request_id"] = request_id
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        level = _level(request.method, response.status_code)
        if logger.isEnabledFor(level):
            milliseconds = (time.perf_counter() - started) * 1000
            logger.log(
                level, "%s %s %d %.1f ms id=%s",
                request.method, _printable(request.path), response.status_code, milliseconds,
                request_id,
            )  # fmt: skip
        return response


def _level(method: str | None, status: int) -> int:
    if status >= 500:
        return logging.WARNING
    return logging.DEBUG if method == "POST" and status < 400 else logging.INFO


def _printable(path: str) -> str:
    """A path that can't forge a line of the log."""
    return path[:200].encode("unicode_escape").decode()
