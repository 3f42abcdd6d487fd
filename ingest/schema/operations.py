"""The endpoints: what each takes, and all that it may answer."""

from collections.abc import Collection, Mapping, Sequence

from django.conf import settings

from ingest.bodies import ENCODINGS
from ingest.formats.metrics import MOST_TAGS
from ingest.records import CATEGORIES, KINDS
from ingest.schema import answers, events, measurements
from telemetry_site.openapi import (
    REFUSALS,
    TOO_LARGE,
    UNSUPPORTED,
    WRONG_ONLY,
    Object,
    component,
    operation,
)
from telemetry_site.schema import OK

LENGTH = settings.MAX_NAME_LENGTH


def _header(name: str, description: str, content: Object) -> Object:
    described = {"name": name, "in": "header", "description": description, "schema": content}
    return component("parameters", name, described)


USER = _header(
    "X-User-ID",
    "Who this is from, where the body doesn't say it. ASCII, and without blanks at its ends, which "
    "HTTP takes off; any other id goes into the body.",
    {"type": "string", "maxLength": LENGTH, "pattern": "^[ -~]*$"},
)
CLIENT_VERSION = _header(
    "X-Client-Version",
    "The client's version, where the body doesn't say it.",
    {"type": "string", "maxLength": LENGTH, "pattern": "^[ -~]*$"},
)
IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "The batch's id, where the body doesn't say it.",
    {"anyOf": [answers.UUID, {"const": ""}]},
)
ENCODING = _header(
    "Content-Encoding",
    "How the body is compressed, where it is.",
    {"type": "string", "enum": [*ENCODINGS, "identity", ""]},
)
SENDER = (USER, CLIENT_VERSION, IDEMPOTENCY_KEY)
GZIPPED: Object = {
    "description": "The JSON, compressed with gzip; a `Content-Encoding: gzip` beside it changes "
    "nothing.",
    "type": "string",
    "contentMediaType": "application/gzip",
}


def request_body(body: Object, shown: Object) -> Object:
    """A JSON body: as it is, as browsers' beacons name it, or compressed."""
    content = {
        "application/json": {"schema": body, "examples": shown},
        "text/plain": {"schema": body, "examples": shown},
        "application/gzip": {"schema": GZIPPED},
    }
    return {"required": True, "content": content}


def _sending(
    summary: str,
    description: str,
    body: Object,
    shown: Object,
    answer: Mapping[int, Object],
    codes: Mapping[str, str],
    parameters: Sequence[Object] = SENDER,
) -> Object:
    """An endpoint that takes a batch in some format."""
    return operation(
        "Ingest",
        summary,
        description,
        {**REFUSALS, 400: answers.refused(codes), 413: TOO_LARGE, 415: UNSUPPORTED, **answer},
        (*parameters, ENCODING),
        request_body(body, shown),
    )


def _one_of(field: str, choices: Collection[str]) -> str:
    return f"{field} must be one of {', '.join(sorted(choices))}"


_CATEGORY = {"invalid_category": f"events[0]: {_one_of('category', CATEGORIES)}"}

EVENTS = _sending(
    "Send events",
    "The native batch, a list of events, or a single one. Good events are kept, bad ones are "
    "named. Sent again it is a duplicate: by its id for 31 days; by its content for an hour, where "
    "every event has a user or a session.",
    events.NATIVE,
    events.NATIVE_EXAMPLES,
    {200: answers.RECEIVED},
    _CATEGORY,
)
SUBMIT = _sending(
    "Submit events",
    "The submission client's batch. As `/v1/events`, with users optional.",
    events.SUBMIT,
    events.SUBMIT_EXAMPLES,
    {200: answers.SUBMITTED},
    _CATEGORY,
)
CLIENT_TELEMETRY = _sending(
    "Send a page's log",
    "Events of a web page, several or one, with `fetch` or `navigator.sendBeacon`. The page's "
    "origin must be one of the project's; some projects take what their pages send without a key.",
    events.BROWSER,
    events.BROWSER_EXAMPLES,
    {204: answers.TAKEN, 403: answers.FOREIGN_ORIGIN},
    {"invalid_level": f"events[0]: {_one_of('level', ['error', 'info', 'warn'])}"},
)
METRICS = _sending(
    "Send metrics",
    "Counters, gauges, histograms, summaries and meters: a batch, a list, or a single one.",
    measurements.METRICS,
    measurements.METRICS_EXAMPLES,
    {200: answers.RECEIVED},
    {
        "invalid_metric_type": f"metrics[0]: {_one_of('type', KINDS)}",
        "invalid_value": "metrics[0]: A counter's value must not be negative",
        "invalid_temporality": "metrics[0]: Only a counter can be cumulative",
        "too_many_tags": f"metrics[0]: A metric may have at most {MOST_TAGS} tags",
    },
    (USER, IDEMPOTENCY_KEY),
)
SNAPSHOT = _sending(
    "Send a node's snapshot",
    "How one node is, one moment. It is one item: `received` is 1.",
    measurements.SNAPSHOT,
    measurements.SNAPSHOT_EXAMPLES,
    {200: answers.RECEIVED},
    {
        "too_many_fields": f"{settings.MAX_BATCH_EVENTS + 1} numbers in one snapshot; at most "
        f"{settings.MAX_BATCH_EVENTS} are taken"
    },
    (),
)
BATCH = operation(
    "Ingest",
    "Did it arrive?",
    "What became of a batch and its events, for 31 days. What persons don't let be stored "
    "(`suppressed`), and what couldn't be (`dead`), is told the secret key alone; to others it is "
    "stored, as is what arrived with it.",
    {**REFUSALS, 200: answers.REPORTED, 404: answers.UNKNOWN_BATCH},
    [
        {
            "name": "batch_id",
            "in": "path",
            "required": True,
            "schema": answers.UUID,
            "example": "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11",
        }
    ],
)
PING = operation("Operations", "Is somebody there?", "Needs no key.", {200: OK, **WRONG_ONLY})
INFO = operation(
    "Operations",
    "What does this server take?",
    "Needs no key.",
    {200: answers.TOLD, **WRONG_ONLY},
)
