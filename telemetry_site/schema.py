"""What the document says of the service as a whole, and of its health."""

from collections.abc import Mapping, Sequence

from django.conf import settings

from telemetry_site.openapi import (
    CHALLENGE,
    HEADERS,
    RETRY_AFTER,
    WRONG_ONLY,
    Object,
    answer,
    examples,
    operation,
    refusal,
    schema,
)

TAGS: list[Object] = [
    {"name": "Ingest", "description": "What clients send, and what became of it."},
    {"name": "Queries", "description": "What was sent, in numbers. Needs the secret key."},
    {"name": "Privacy", "description": "One person's data: a copy, its erasure, consent."},
    {"name": "Operations", "description": "Is the service there, and what does it take?"},
]
_LIMITS = ", ".join(f"`{rule}` {rate}" for rule, rate in settings.RATE_LIMITS.items())
DESCRIPTION = f"""\
Clients send batches of events; the service makes each batch durable before it answers.

**Bodies** are JSON in UTF-8: at most {settings.MAX_WIRE_BYTES:,} bytes as sent,
{settings.MAX_BODY_BYTES:,} decompressed, {settings.MAX_BATCH_EVENTS:,} events in a batch,
{settings.MAX_EVENT_BYTES:,} bytes an event, {settings.MAX_DEPTH} levels of nesting, names of
{settings.MAX_NAME_LENGTH} characters. Integers fit in 64 bits, numbers are finite, text holds no
NUL, no object has a key twice. `Content-Encoding` is absent or one of gzip, deflate, br and zstd.

**Keys** go into `X-API-Key` or `Authorization: Bearer`; where no header can be set, a publishable
key into `?key=`. An `ingest_…` key sends, a `secret_…` key also asks. An empty header is no key.
A project may take what pages of its own origins send without one.

**Refusals** have one shape (`Error`), on every path and for every status, 404 and 405 included:
`code` for programs, `details` for people, and what is wrong with each event.

**Rate limits** stand in `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers);
429 says in `policy` which one is used up and in `Retry-After` how long to wait. A project may have
limits of its own; those of this instance are {_LIMITS}.

**Every answer** has an `X-Request-ID`. `HEAD` answers as `GET` does, without a body; any other
method is refused with 405 and `Allow`.
"""

# --- who is calling ---

SECURITY: Object = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key of the project: `ingest_…` to send, `secret_…` to ask.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The same keys; to send, also a JWT (HS256) signed with the project's "
        "signing secret: `aud` the project's slug, `scope` `ingest`; about one person a subject "
        "token, `scope` `privacy`.",
    },
    "urlKey": {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "For beacons, which can set no headers: publishable keys (`ingest_…`) only.",
    },
    "metricsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The server's `TELEMETRY_METRICS_TOKEN`.",
    },
}
# How a view identifies its callers, by its authentication classes -> the schemes that do.
SCHEMES: Mapping[str, Sequence[Object]] = {
    "KeyAuthentication": [{"apiKey": []}, {"bearer": []}],
    "TokenAuthentication": [{"bearer": []}],
    "SubjectAuthentication": [{"bearer": []}],
    "UrlKeyAuthentication": [{"urlKey": []}],
    "ScrapeAuthentication": [{"metricsToken": []}, {}],
    "KeylessAuthentication": [{}] if settings.ANONYMOUS_PROJECT else [],
}

# --- health ---

CHECK = schema(
    "Check",
    {
        "type": "object",
        "required": ["ok", "detail"],
        "properties": {
            "ok": {"type": "boolean"},
            "detail": {"type": "string"},
            "action": {"type": "string", "description": "What an operator does; where not ok."},
        },
    },
)
STATUS = schema(
    "Status",
    {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}},
)
READINESS = schema(
    "Readiness",
    {
        "type": "object",
        "required": ["status", "checks"],
        "properties": {
            "status": {"type": "string", "enum": ["ready", "not ready"]},
            "checks": {"type": "object", "additionalProperties": CHECK},
        },
    },
)

_FINE = {
    "disk": {"ok": True, "detail": "48211 MB free"},
    "broker": {"ok": True, "detail": "answers"},
    "database": {"ok": True, "detail": "answers"},
    "partitions": {"ok": True, "detail": "there until 2026-11-23 at least"},
    "backlog": {"ok": True, "detail": "nothing waits"},
    "storing": {"ok": True, "detail": "keeps up"},
    "worker": {"ok": True, "detail": "runs"},
    "beat": {"ok": True, "detail": "runs the schedules"},
    "erasures": {"ok": True, "detail": "none is late"},
    "rollups": {"ok": True, "detail": "none is late"},
    "forwarding": {"ok": True, "detail": "none is late"},
    "replica": {"ok": True, "detail": "none is set"},
}
_FULL = {
    "ok": False,
    "detail": "212 MB free; nothing is accepted",
    "action": "Free or add space on the disk of the data folder, or shorten a retention.",
}

OK = answer("It is there.", STATUS, examples(ok={"status": "ok"}))
HEALTH = operation("Operations", "Is the process up?", "Asks nothing else.", {200: OK})
READY = operation(
    "Operations",
    "Can it accept?",
    "Each thing the service leans on, by name. Only the database and a full disk make it 503: "
    "with anything else gone it still accepts.",
    {
        200: answer("It can.", READINESS, examples(ready={"status": "ready", "checks": _FINE})),
        503: answer(
            "It can't; do not send here now.",
            READINESS,
            examples(disk={"status": "not ready", "checks": {**_FINE, "disk": _FULL}}),
            RETRY_AFTER,
        ),
    },
)

# --- metrics ---

ONLY_FROM_HERE = (
    "Only this machine may read this, and directly. Set TELEMETRY_METRICS_TOKEN on the server, and "
    "send it as Authorization: Bearer."
)
WRONG_BEARER = "Send the server's TELEMETRY_METRICS_TOKEN as Authorization: Bearer."
_SCRAPED = """\
# HELP telemetry_requests_total Requests answered, by the route's name and the status.
# TYPE telemetry_requests_total counter
telemetry_requests_total{route="events",status="200"} 1024.0
"""

SCRAPE = operation(
    "Operations",
    "How is it doing?",
    "For Prometheus: what the processes here have counted, and how the service is. Where the "
    "server has a `TELEMETRY_METRICS_TOKEN`, `Authorization: Bearer` must carry it; where it has "
    "none, requests from the same machine alone are answered, and none that a proxy passes on.",
    {
        **WRONG_ONLY,
        200: {
            "description": "The metrics, in Prometheus' text format.",
            "headers": HEADERS,
            "content": {
                "text/plain": {"schema": {"type": "string"}, "examples": examples(some=_SCRAPED)}
            },
        },
        401: refusal(401, "Not the server's token.", {"invalid_token": WRONG_BEARER}, CHALLENGE),
        403: refusal(403, "The server has no token.", {"token_needed": ONLY_FROM_HERE}),
    },
)
