"""The one error shape of everything the service answers (api.md, *Errors*).

{"error": "Invalid payload", "code": "missing_field", "details": "events[3]: …",
 "errors": [{"index": 3, "field": "user_id", "code": "missing_field", "message": "…"}]}
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.settings import api_settings

from privacy.scrubbing import scrub_text
from telemetry_site.responses import json_response

logger = logging.getLogger(__name__)

MOST_ERRORS = 20
RETRY_SECONDS = 5
# The server can't be reached, is out of something, or stopped the statement. Anything else that a
# database says to us is our defect.
DATABASE_ERRORS = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)

# Code -> status, where it isn't 400.
STATUS_OF_CODE = {
    "loop": 409,
    "too_large": 413,
    "too_large_decompressed": 413,
    "too_many_events": 413,
    "too_complex": 413,
    "unsupported_encoding": 415,
    "unsupported_type": 415,
}
# What DRF calls a thing -> what events call it.
CODES = {
    "required": "missing_field",
    "null": "missing_field",
    "blank": "missing_field",
    "empty": "missing_field",
    "invalid": "invalid_type",
    "not_a_dict": "invalid_type",
    "max_length": "too_long",
    "null_characters_not_allowed": "invalid_character",
    "surrogate_characters_not_allowed": "invalid_character",
    "min_value": "out_of_range",
    "max_value": "out_of_range",
    "max_string_length": "out_of_range",
    "overflow": "out_of_range",
}
TITLES = {
    400: "Invalid payload",
    401: "Authentication required",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    410: "Gone",
    413: "Payload too large",
    415: "Unsupported media type",
    429: "Too many requests",
    500: "Internal error",
    501: "Not implemented",
    503: "Not able to accept now",
}


def error_response(
    status: int,
    code: str,
    details: str,
    errors: Sequence[Any] = (),
    headers: dict[str, str] | None = None,
    **more: str,
) -> HttpResponse:
    """An answer in the one error shape; of `errors` the first twenty are listed."""
    body: dict[str, Any] = {"error": TITLES[status], "code": code, "details": details, **more}
    if errors:
        body["errors"] = list(errors[:MOST_ERRORS])
    return json_response(body, status, headers)


def unavailable(details: str, code: str = "unavailable") -> HttpResponse:
    """503: nothing was accepted, the client should send it again."""
    return error_response(503, code, details, headers={"Retry-After": str(RETRY_SECONDS)})


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse | Response | None:
    """What DRF's views answer to an exception; None hands it on to Django's handler for 500."""
    if isinstance(error, DATABASE_ERRORS):
        logger.error("database unavailable: %s", type(error).__name__)
        return unavailable("The database does not answer. Send the request again later.")
    if isinstance(error, Http404):
        return error_response(404, "not_found", "There is nothing here.")
    if isinstance(error, PermissionDenied):
        return error_response(403, "forbidden", "This is not allowed.")
    if not isinstance(error, exceptions.APIException):
        return None
    headers: dict[str, str] = dict(getattr(error, "headers", {}))
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(max(1, int(wait)))
    problems = list(_problems(error.get_full_details()))
    first = problems[0]
    details = f"{first['field']}: {first['message']}" if "field" in first else first["message"]
    status = error.status_code if error.status_code in TITLES else 400
    # A rate limit says which one it is.
    more = {"policy": error.policy} if hasattr(error, "policy") else {}
    named = [problem for problem in problems if "field" in problem]
    return error_response(status, first["code"], details, named, headers=headers, **more)


def _problems(full: Any, field: str = "") -> Iterator[dict[str, str]]:
    """What is wrong, by field, of a DRF error however it nests them."""
    if isinstance(full, list):
        for inner in full:
            yield from _problems(inner, field)
    elif "message" in full and "code" in full:
        code = CODES.get(full["code"], full["code"])
        yield {
            **({"field": field} if field else {}),
            "code": str(code),
            "message": str(full["message"]),
        }
    else:
        for name, inner in full.items():
            path = "" if name == api_settings.NON_FIELD_ERRORS_KEY else str(name)
            yield from _problems(inner, f"{field}.{path}" if field and path else field or path)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 400: a host that isn't allowed, or a request it won't read."""
    return error_response(400, "bad_request", "The request can't be read (is the host allowed?).")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 403."""
    return error_response(403, "forbidden", "This is not allowed.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 404."""
    path = scrub_text(request.path)[:200]
    return error_response(404, "not_found", f"There is nothing at {path}.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's 500: a defect. The log has the request's id and what happened."""
    return error_response(500, "internal_error", "This is a defect of the server; it was logged.")
