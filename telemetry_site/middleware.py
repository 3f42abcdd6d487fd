"""The request id, the access log, and Django's own middleware for the pages that need it."""

import logging
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from privacy.scrubbing import is_clean, scrub_text
from telemetry_site import logs
from telemetry_site.errors import bad_request
from telemetry_site.monitoring import instruments

logger = logging.getLogger("telemetry.access")

# Asked by a load balancer, by whatever name it knows the machine; by Prometheus if it has a token.
ANY_HOST = frozenset({"/healthz", "/readyz", *(["/metrics"] if settings.METRICS_TOKEN else [])})
# Requests that no route takes, as they are counted.
UNROUTED = "unrouted"

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class RequestLog:
    """Gives each request its id (`request.id`), echoes it, counts it, and logs one line when it is
    answered.

    What succeeds is logged at DEBUG where a client posts (thousands a minute look alike), at INFO
    elsewhere; refusals at INFO, 5xx at WARNING.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        # It goes into every log line: one that might be somebody's number isn't taken.
        usable = _REQUEST_ID.fullmatch(given) and is_clean(given)
        request_id = given if usable else uuid4().hex
        request.META["telemetry.request_id"] = request_id
        request.META["telemetry.started"] = started
        with logs.about(request_id=request_id):
            response = self._answer_to(request)
            response["X-Request-ID"] = request_id
            _count(request, response.status_code)
            level = _level(request.method, response.status_code)
            if logger.isEnabledFor(level):
                _log(level, request, response.status_code, time.perf_counter() - started)
        return response

    def _answer_to(self, request: HttpRequest) -> HttpResponse:
        if request.path_info not in ANY_HOST:
            try:
                request.get_host()
            except DisallowedHost as error:
                return bad_request(request, error)
        return self.get_response(request)


def _count(request: HttpRequest, status: int) -> None:
    """By the route's name: a path may be anything, and tell who somebody is."""
    match = request.resolver_match
    instruments.requests(match.view_name if match else UNROUTED, status).inc()


def _level(method: str | None, status: int) -> int:
    if status >= 500:
        return logging.WARNING
    return logging.DEBUG if method == "POST" and status < 400 else logging.INFO


def _log(level: int, request: HttpRequest, status: int, seconds: float) -> None:
    milliseconds = round(seconds * 1000, 1)
    told = {
        "method": request.method,
        "path": _printable(request.path),
        "status": status,
        "milliseconds": milliseconds,
    }
    logger.log(level, "%s %s %d %.1f ms", *told.values(), extra=told)


def _printable(path: str) -> str:
    """A path that can't forge a line of the log, nor tell who somebody is."""
    return scrub_text(path)[:200].encode("unicode_escape").decode()


class PagesOnly(CorsMiddleware):
    """Runs for what a browser says comes from a page: the other clients would pay a tenth more."""

    def __call__(self, request: HttpRequest) -> Any:
        return (
            super().__call__(request)
            if "HTTP_ORIGIN" in request.META
            else self.get_response(request)
        )


class _AdminOnly(MiddlewareMixin):
    """Runs for the admin's pages alone: clients have keys and no sessions, and thousands of them
    would pay for it each minute."""

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith("/admin/"):
            return super().__call__(request)
        return self.get_response(request)


class AdminContent(_AdminOnly):
    """Nothing comes from elsewhere or goes there. (The theme's Alpine evaluates attributes.)"""

    _POLICY = (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response["Content-Security-Policy"] = self._POLICY
        return response


class AdminSession(_AdminOnly, SessionMiddleware):
    """Sessions."""


class AdminUser(_AdminOnly, AuthenticationMiddleware):
    """Who is logged in."""


class AdminMessages(_AdminOnly, MessageMiddleware):
    """What the next page says."""
