"""What clients are told: receipts, reports, and why something is refused."""

from collections.abc import Mapping

from django.conf import settings

from ingest.formats import NAMES
from ingest.formats.otlp.frames import MOST_ITEMS
from ingest.models import OUTCOMES, Batch
from telemetry_site.errors import MOST_ERRORS
from telemetry_site.openapi import (
    EXAMPLE_DAY,
    HEADERS,
    LIMITS,
    PROBLEM,
    WRONG_HOST,
    Object,
    answer,
    examples,
    refusal,
    schema,
)

COUNT: Object = {"type": "integer", "minimum": 0}
UUID: Object = {"type": "string", "format": "uuid"}
MOMENT: Object = {"type": "string", "format": "date-time"}
STRINGS: Object = {"type": "array", "items": {"type": "string"}}

_BATCH_ID = "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11"
_RECEIVED = {"batch_id": _BATCH_ID, "received": 2, "timestamp": f"{EXAMPLE_DAY}T10:30:01.250113Z"}
_PROBLEM = {
    "index": 1,
    "code": "missing_field",
    "field": "timestamp",
    "message": "Missing required field: timestamp",
}

RECEIPT = schema(
    "Receipt",
    {
        "description": "What is accepted is durable.",
        "type": "object",
        "required": ["batch_id", "received", "accepted", "rejected", "timestamp"],
        "properties": {
            "batch_id": UUID,
            "received": COUNT,
            "accepted": COUNT | {"minimum": 1},
            "rejected": COUNT,
            "timestamp": MOMENT | {"description": "The server's clock."},
            "errors": {
                "type": "array",
                "items": PROBLEM,
                "maxItems": MOST_ERRORS,
                "description": "Why events were rejected, the first of them.",
            },
            "duplicate": {"const": True, "description": "Seen before: nothing is stored twice."},
        },
    },
)
SUBMISSION = schema(
    "Submission",
    {
        "type": "object",
        "required": ["success", "accepted", "rejected"],
        "properties": {
            "success": {"const": True},
            "accepted": COUNT | {"minimum": 1},
            "rejected": COUNT,
            "errors": STRINGS | {"maxItems": MOST_ERRORS},
        },
    },
)
REPORT = schema(
    "BatchReport",
    {
        "description": "`received` is the sum of the other counts.",
        "type": "object",
        "required": ["batch_id", "state", "format", "received_at", "stored_at", *OUTCOMES],
        "properties": {
            "batch_id": UUID,
            "state": {
                "type": "string",
                "enum": Batch.State.values,
                "description": "; ".join(f"`{s.value}`: {s.label}" for s in Batch.State) + ".",
            },
            "format": {"type": "string"},
            "received_at": MOMENT,
            "stored_at": {"anyOf": [MOMENT, {"type": "null"}]},
            **dict.fromkeys(OUTCOMES, COUNT),
            "duplicate_of": UUID | {"description": "The batch that has the same events."},
        },
    },
)
INFO = schema(
    "Info",
    {
        "type": "object",
        "required": ["name", "version", "api_versions", "formats", "encodings", "limits"],
        "properties": {
            "name": {"const": "telemetry"},
            "version": {"type": "string"},
            "api_versions": STRINGS,
            "formats": STRINGS,
            "encodings": STRINGS | {"description": "What `Content-Encoding` may say."},
            "limits": {
                "type": "object",
                "additionalProperties": COUNT,
                "description": "In bytes, characters, levels or days; `structure` counts the "
                "brackets and commas of a body.",
            },
        },
    },
)

RECEIVED = answer(
    "Durable, all or a part of it; or seen before.",
    RECEIPT,
    examples(
        accepted={**_RECEIVED, "accepted": 2, "rejected": 0},
        some_rejected={**_RECEIVED, "accepted": 1, "rejected": 1, "errors": [_PROBLEM]},
        duplicate={**_RECEIVED, "accepted": 2, "rejected": 0, "duplicate": True},
    ),
    LIMITS,
) | {
    "links": {
        "report": {
            "operationId": "get_v1_batches_batch_id",
            "parameters": {"batch_id": "$response.body#/batch_id"},
            "description": "What becomes of it.",
        }
    }
}
SUBMITTED = answer(
    "Durable, all or a part of it; or seen before.",
    SUBMISSION,
    examples(
        accepted={"success": True, "accepted": 100, "rejected": 0},
        some_rejected={
            "success": True,
            "accepted": 98,
            "rejected": 2,
            "errors": ["events[4]: Missing required field: event"],
        },
    ),
    LIMITS,
)
TAKEN: Object = {
    "description": "Durable, all or a part of it; or seen before.",
    "headers": HEADERS | LIMITS,
}
REPORTED = answer(
    "What became of it.",
    REPORT,
    examples(
        stored={
            "batch_id": _BATCH_ID,
            "state": "stored",
            "format": "events",
            "received_at": f"{EXAMPLE_DAY}T10:30:01.250113Z",
            "stored_at": f"{EXAMPLE_DAY}T10:30:01.309412Z",
            **dict.fromkeys(OUTCOMES, 0),
            "received": 2,
            "stored": 2,
        }
    ),
)
TOLD = answer(
    "What the server is and takes.",
    INFO,
    examples(
        info={
            "name": "telemetry",
            "version": settings.VERSION,
            "api_versions": ["v1"],
            "formats": list(NAMES),
            "encodings": ["gzip", "deflate", "br", "zstd"],
            "limits": {
                "wire_bytes": settings.MAX_WIRE_BYTES,
                "body_bytes": settings.MAX_BODY_BYTES,
                "otlp_wire_bytes": settings.MAX_OTLP_WIRE_BYTES,
                "otlp_body_bytes": settings.MAX_OTLP_BODY_BYTES,
                "otlp_items": MOST_ITEMS,
                "batch_events": settings.MAX_BATCH_EVENTS,
                "event_bytes": settings.MAX_EVENT_BYTES,
                "depth": settings.MAX_DEPTH,
                "name_length": settings.MAX_NAME_LENGTH,
                "structure": settings.MAX_STRUCTURE,
                "age_days": settings.MAX_AGE_DAYS,
            },
        }
    ),
)

# --- refusals ---

_LIST_OF_ONE = {
    "details": "events[0]: Missing required field: timestamp",
    "errors": [{**_PROBLEM, "index": 0}],
}
# What may be wrong with a body, whatever its format: code -> sentence, or example.
WRONG: Mapping[str, str | Object] = {
    **WRONG_HOST,
    "empty_body": "The body is empty.",
    "malformed_json": "Not valid JSON: Expecting value (line 1, column 12).",
    "invalid_encoding": "The body is not valid gzip data.",
    "truncated": "The gzip data ends too early.",
    "missing_field": _LIST_OF_ONE,
    "invalid_type": "The body must be an object or a list",
    "no_events": "events is empty",
    "invalid_timestamp": "events[0]: timestamp must be a time such as 2026-11-20T10:30:00Z "
    "(RFC 3339)",
    "too_old": f"events[0]: timestamp is more than {settings.MAX_AGE_DAYS} days ago",
    "too_long": f"events[0]: user_id is longer than {settings.MAX_NAME_LENGTH} characters",
    "name_too_long": f"events[0]: A field's name is longer than {settings.MAX_NAME_LENGTH} "
    "characters",
    "event_too_large": f"events[0]: An event is larger than {settings.MAX_EVENT_BYTES} bytes",
    "too_deep": f"events[0]: Nested more than {settings.MAX_DEPTH} levels deep",
    "duplicate_key": "events[0]: A key occurs twice in one object",
    "invalid_character": "events[0]: Text contains the NUL character",
    "number_out_of_range": "events[0]: An integer does not fit in 64 bits",
    "invalid_batch_id": "batch_id must be a UUID",
    "invalid_utf8": "X-User-ID is not valid UTF-8",
}


def refused(more: Mapping[str, str]) -> Object:
    """The 400 of a format: nothing was kept but the record of the refusal."""
    return refusal(
        400,
        "Malformed, or every event of it is bad; nothing is kept. The code is that of the first "
        "bad event, each of which is listed.",
        {**WRONG, **more},
    )


UNKNOWN_BATCH = refusal(
    404,
    "No such batch.",
    {
        "unknown_batch": "No batch of this id was accepted in the last 31 days.",
        "not_found": "There is nothing at /v1/batches/17.",
    },
)
FOREIGN_ORIGIN = refusal(
    403,
    "The page may not send to this project.",
    {"origin_not_allowed": "The page's origin isn't among the project's; list it in the admin."},
)
