"""The words in which the endpoints are described: OpenAPI's own objects, as plain data.

A view's `operation` is one of these, made in its app's `schema` module; `document` puts them
together. Nothing here needs drf-spectacular: a process that is never asked for the document does
without it.

Times in examples stand on `EXAMPLE_DAY`, which the document replaces by the day before it is read,
so that an example can be sent as it stands.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from telemetry_site.errors import MOST_ERRORS, RETRY_SECONDS, TITLES

Object = dict[str, Any]

EXAMPLE_DAY = "2026-11-20"
# Kind -> name -> what several descriptions share.
COMPONENTS: dict[str, Object] = {}


def component(kind: str, name: str, value: Object) -> Object:
    """Name a piece that several descriptions share; the reference to it."""
    COMPONENTS.setdefault(kind, {})[name] = value
    return {"$ref": f"#/components/{kind}/{name}"}


def schema(name: str, value: Object) -> Object:
    """Name a schema; the reference to it."""
    return component("schemas", name, value)


def operation(
    tag: str,
    summary: str,
    description: str,
    answers: Mapping[int, Object],
    parameters: Sequence[Object] = (),
    body: Object | None = None,
) -> Object:
    """What one method of one endpoint takes and answers."""
    described: Object = {"tags": [tag], "summary": summary, "description": description}
    described["parameters"] = [*parameters, REQUEST_ID]
    if body is not None:
        described["requestBody"] = body
    described["responses"] = {str(status): answers[status] for status in sorted(answers)}
    return described


def examples(**values: Any) -> Object:
    """Examples by their names."""
    return {name: {"value": value} for name, value in values.items()}


def answer(
    description: str,
    content: Object,
    shown: Object,
    headers: Mapping[str, Object] | None = None,
) -> Object:
    """An answer with a body, and examples of it."""
    media = {"schema": content, "examples": shown}
    return {
        "description": description,
        "headers": HEADERS | dict(headers or {}),
        "content": {"application/json": media},
    }


def refusal(
    status: int,
    description: str,
    codes: Mapping[str, str | Object],
    headers: Mapping[str, Object] | None = None,
) -> Object:
    """A refusal in the one error shape, with an example for each of its codes.

    Of a code there is the sentence that goes with it, or whatever else stands in its example.
    """
    shown = {
        code: {
            "error": TITLES[status],
            "code": code,
            **({"details": said} if isinstance(said, str) else said),
        }
        for code, said in codes.items()
    }
    return answer(description, ERROR, examples(**shown), headers)


# --- headers ---

X_REQUEST_ID = component(
    "headers",
    "X-Request-ID",
    {
        "description": "The request's id: the client's own, or one that was made. "
        "The server's log has it on every line.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9-]{1,64}$"},
        "example": "0d5c8f8f1a114e5e9c530b6f9c1e6d0e",
    },
)
HEADERS = {"X-Request-ID": X_REQUEST_ID}
LIMITS = {
    "RateLimit-Policy": component(
        "headers",
        "RateLimit-Policy",
        {
            "description": "The limits that were checked: requests (q) in seconds (w). Absent "
            "where none holds.",
            "schema": {"type": "string"},
            "example": '"events.ip";q=600;w=60, "events.user";q=10;w=60',
        },
    ),
    "RateLimit": component(
        "headers",
        "RateLimit",
        {
            "description": "What is left of them: requests (r), and the seconds until the window "
            "opens anew (t).",
            "schema": {"type": "string"},
            "example": '"events.ip";r=599;t=58, "events.user";r=3;t=24',
        },
    ),
}
RETRY_AFTER = {
    "Retry-After": component(
        "headers",
        "Retry-After",
        {
            "description": "Seconds to wait before the next try.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
            "example": RETRY_SECONDS,
        },
    )
}
CHALLENGE = {
    "WWW-Authenticate": component(
        "headers",
        "WWW-Authenticate",
        {"required": True, "schema": {"type": "string"}, "example": 'Bearer realm="telemetry"'},
    )
}
REQUEST_ID = component(
    "parameters",
    "X-Request-ID",
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": "An id for this request: up to 64 letters, digits and hyphens. "
        "Any other is replaced.",
        "schema": {"type": "string"},
    },
)

# --- errors ---

PROBLEM = schema(
    "Problem",
    {
        "description": "What is wrong with one event, or with one field of the batch.",
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "index": {"type": "integer", "minimum": 0, "description": "The event, from 0."},
            "field": {"type": "string", "description": "The field, where it is one field."},
            "code": {"type": "string", "description": "For programs."},
            "message": {"type": "string", "description": "For people; repeats no value."},
        },
    },
)
ERROR = schema(
    "Error",
    {
        "description": "The one shape of everything that is refused.",
        "type": "object",
        "required": ["error", "code", "details"],
        "properties": {
            "error": {"type": "string", "enum": sorted(TITLES.values())},
            "code": {"type": "string", "description": "For programs. New ones may come."},
            "details": {"type": "string", "description": "For people."},
            "policy": {"type": "string", "description": "429: the used up limit, or `block`."},
            "errors": {"type": "array", "items": PROBLEM, "maxItems": MOST_ERRORS},
        },
    },
)
WRONG_HOST = {"bad_request": "The request can't be read (is the host allowed?)."}


def _shared(name: str, value: Object) -> Object:
    return component("responses", name, value)


BAD_REQUEST = _shared("BadRequest", refusal(400, "The request can't be read.", WRONG_HOST))
UNAUTHENTICATED = _shared(
    "Unauthenticated",
    refusal(
        401,
        "No key, or none that is valid.",
        {
            "missing_key": "Send the project's key as X-API-Key or as Authorization: Bearer.",
            "invalid_key": "This key is unknown, expired or revoked.",
            "invalid_token": "The token has expired.",
            "missing_token": "Send a subject token, or the project's secret key, as "
            "Authorization: Bearer.",
        },
        CHALLENGE,
    ),
)
TOO_LARGE = _shared(
    "TooLarge",
    refusal(
        413,
        "Larger than a limit: as sent, decompressed, by its events or by its structure.",
        {
            "too_large": f"The body is larger than {settings.MAX_WIRE_BYTES} bytes as sent.",
            "too_large_decompressed": f"The body is larger than {settings.MAX_BODY_BYTES} bytes "
            "once decompressed.",
            "too_many_events": f"{settings.MAX_BATCH_EVENTS + 1} events in one batch; at most "
            f"{settings.MAX_BATCH_EVENTS} are taken",
            "too_complex": f"The body holds more than {settings.MAX_STRUCTURE} values (by its "
            "brackets and commas).",
        },
    ),
)
UNSUPPORTED = _shared(
    "UnsupportedMediaType",
    refusal(
        415,
        "A content type or a content encoding that isn't taken.",
        {
            "unsupported_type": "The content type must be application/json.",
            "unsupported_encoding": "Content-Encoding must be one of gzip, deflate, br, zstd, "
            "and only one.",
        },
    ),
)
RATE_LIMITED = _shared(
    "RateLimited",
    refusal(
        429,
        "A limit is used up: `policy` says which one, `Retry-After` for how long. Addresses that "
        "failed to authenticate too often get this too (`auth.ip`), and keys and networks that an "
        "operator has blocked for a while (`block`).",
        {
            "rate_limited": {
                "details": "10 requests in 60 s are allowed by the limit events.user. "
                "Try again in 24 s.",
                "policy": "events.user",
            }
        },
        RETRY_AFTER | LIMITS,
    ),
)
UNAVAILABLE = _shared(
    "Unavailable",
    refusal(
        503,
        "Nothing was accepted; send it again. The one 5xx that is no defect.",
        {
            "unavailable": "The database does not answer. Send the request again later.",
            "disk_full": "The server's disk is nearly full.",
        },
        RETRY_AFTER,
    ),
)
# What an endpoint may refuse that takes nothing, and what one may that asks who is calling.
WRONG_ONLY = {400: BAD_REQUEST}
REFUSALS = WRONG_ONLY | {401: UNAUTHENTICATED, 429: RATE_LIMITED, 503: UNAVAILABLE}
