"""What the OpenAPI document says of questions about numbers."""

from ingest.models import OUTCOMES
from telemetry_site.openapi import (
    EXAMPLE_DAY,
    LIMITS,
    REFUSALS,
    WRONG_HOST,
    Object,
    answer,
    examples,
    operation,
    refusal,
    schema,
)

COUNT: Object = {"type": "integer", "minimum": 0}
MOMENT: Object = {"type": "string", "format": "date-time"}

FORMAT_ACCOUNT = schema(
    "FormatAccount",
    {
        "description": "`received` is the sum of the other counts.",
        "type": "object",
        "required": ["format", *OUTCOMES],
        "properties": {"format": {"type": "string"}, **dict.fromkeys(OUTCOMES, COUNT)},
    },
)
ACCOUNT = schema(
    "Accounting",
    {
        "type": "object",
        "required": ["from", "to", "formats"],
        "properties": {
            "from": MOMENT,
            "to": MOMENT,
            "formats": {"type": "array", "items": FORMAT_ACCOUNT},
        },
    },
)

_EXAMPLE = {
    "from": f"{EXAMPLE_DAY}T00:00:00Z",
    "to": f"{EXAMPLE_DAY}T12:00:00Z",
    "formats": [
        {
            "format": "events",
            **dict.fromkeys(OUTCOMES, 0),
            "received": 1204,
            "stored": 1190,
            "duplicate": 8,
            "rejected": 4,
            "waiting": 2,
        }
    ],
}


def _time(name: str, description: str, hour: int) -> Object:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"anyOf": [MOMENT, {"const": ""}]},
        "example": f"{EXAMPLE_DAY}T{hour:02}:00:00Z",
    }


ACCOUNTING = operation(
    "Queries",
    "What became of the events?",
    "The events sent in some time, by format: each is stored, a duplicate, rejected, suppressed "
    "(of somebody who was erased or opted out), dead (failed, kept for replay), or still waits.",
    {
        **REFUSALS,
        200: answer("Counts by format.", ACCOUNT, examples(day=_EXAMPLE), LIMITS),
        400: refusal(
            400,
            "A time that is none, or no time between the two.",
            {
                **WRONG_HOST,
                "invalid_timestamp": "from must be a time such as 2026-11-20T10:30:00Z (RFC 3339)",
                "invalid_range": "from must lie before to",
            },
        ),
        403: refusal(
            403, "Not with this key.", {"wrong_scope": "This needs a key of scope secret."}
        ),
    },
    [
        _time("from", "Received from then on. By default a day before `to`.", 0),
        _time("to", "Received before then. By default now.", 12),
    ],
)
