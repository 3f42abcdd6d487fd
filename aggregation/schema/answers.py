"""What every answer has."""

from typing import Any

from aggregation.queries.parameters import INTERVALS
from aggregation.schema.parameters import MOMENT
from telemetry_site.openapi import EXAMPLE_DAY, LIMITS, Object, answer, examples, schema

COUNT: Object = {"type": "integer", "minimum": 0}


def _header(description: str, example: str) -> Object:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_CSV_HEADERS = {
    "Telemetry-Complete-Until": _header("CSV: `complete_until`.", f"{EXAMPLE_DAY}T12:34:56+00:00"),
    "Telemetry-Clean-Until": _header("CSV: `clean_until`.", f"{EXAMPLE_DAY}T12:34:56+00:00"),
    "Telemetry-Threshold": _header("CSV: `threshold`.", "5"),
    "Telemetry-Epsilon": _header("CSV, private mode: `privacy`.", "1 a day, 365 at most"),
    "Telemetry-Withheld": _header("CSV: `withheld`.", "groups=2, cells=7"),
    "Telemetry-Next": _header("CSV: `next`, where there is more.", "WzE2LDUsImEiXQ=="),
}


def numbers(description: str, content: Object, shown: Any, table: str) -> Object:
    """An answer in JSON or CSV."""
    described = answer(description, content, examples(answer=shown), LIMITS | _CSV_HEADERS)
    described["content"]["text/csv"] = {"schema": {"type": "string"}, "examples": examples(a=table)}
    return described


STANDING: Object = {
    "complete_until": MOMENT
    | {"description": "All events that are stored, and occurred before, are in the numbers."},
    "clean_until": MOMENT
    | {"description": "Whoever asked for erasure before is not in the numbers."},
}
SPAN: Object = {
    "from": MOMENT | {"description": "As answered: the first moment of the first bucket."},
    "to": MOMENT | {"description": "As answered: the last bucket ends there."},
    "tz": {"type": "string"},
    **STANDING,
    "mode": {"type": "string", "enum": ["threshold", "private"]},
}
THRESHOLD: Object = {
    "threshold": {
        "type": "integer",
        "minimum": 1,
        "description": "In threshold mode: groups of fewer people are withheld, and what they "
        "could be computed from.",
    },
    "withheld": schema(
        "Withheld",
        {
            "description": "In threshold mode: how much was withheld, of all pages: groups that "
            "aren't shown at all, and cells.",
            "type": "object",
            "required": ["groups", "cells"],
            "properties": {"groups": COUNT, "cells": COUNT},
        },
    ),
}
_PRIVACY: Object = {
    "epsilon": {"type": "number", "description": "What a day tells of a person who is in it."},
    "delta": {"type": "number", "description": "Of a day: how likely it tells more."},
    "lifetime_epsilon": {
        "type": "number",
        "description": "What all days together tell of a person who is in each of them. Once it "
        "is spent no day is released any more.",
    },
    "lifetime_delta": {"type": "number", "description": "That of all days together."},
    "spent_epsilon": {"type": "number", "description": "Of the days released so far."},
    "private_from": {"type": "string", "format": "date", "description": "The first day."},
    "most_events": COUNT | {"description": "So many events of a person and day count."},
    "most_names": COUNT | {"description": "By name, so many names of a person and day count."},
    "margins": schema(
        "Margins",
        {
            "description": "19 of 20 numbers of a day are as near to what was counted.",
            "type": "object",
            "required": ["events", "people", "names"],
            "properties": {"events": COUNT, "people": COUNT, "names": COUNT},
        },
    ),
    "fewest_of_a_name": COUNT | {"description": "Names of fewer events a day are withheld."},
}
OVER_TIME: Object = {
    **SPAN,
    "interval": {"type": "string", "enum": list(INTERVALS)},
    "group_by": {"type": ["string", "null"]},
    "buckets": {"type": "array", "items": MOMENT, "description": "The first moment of each."},
    "next": {"type": ["string", "null"], "description": "The `cursor` of the next page."},
}
VALUE: Object = {
    "type": ["string", "null"],
    "description": "Null where nothing is grouped. `(none)` are those without a value, `(other)` "
    "the rarest, counted together; `(few)` is what had too few people when its month was sealed.",
}
MAYBE: Object = {"type": ["integer", "null"]}
TOLD: Object = {"type": "array", "items": MAYBE}
CELLS: Object = {
    "type": "array",
    "items": COUNT,
    "description": "How many cells of each bucket are withheld: the numbers are of the rest. In "
    "private mode, how many of its days aren't released.",
}


# What says how persons are protected: of the two modes one.
MODES: Object = {
    **THRESHOLD,
    "privacy": schema(
        "Privacy",
        {
            "description": "In private mode: what the numbers may tell of a person. They have "
            "noise, and may be negative; each day's were drawn once, and longer buckets are their "
            "sums. Null where nothing is released.",
            "type": "object",
            "required": list(_PRIVACY),
            "properties": _PRIVACY,
        },
    ),
}


def list_of(name: str, properties: Object) -> Object:
    item = {"type": "object", "required": list(properties), "properties": properties}
    return {"type": "array", "items": schema(name, item)}


def object_of(name: str, properties: Object, optional: Object | None = None) -> Object:
    whole = properties | (optional or {})
    return schema(name, {"type": "object", "required": list(properties), "properties": whole})


HEAD_EXAMPLE: Object = {
    "from": f"{EXAMPLE_DAY}T00:00:00Z",
    "to": f"{EXAMPLE_DAY}T03:00:00Z",
    "tz": "UTC",
    "complete_until": f"{EXAMPLE_DAY}T12:34:56.123456Z",
    "clean_until": f"{EXAMPLE_DAY}T12:34:56.123456Z",
    "mode": "threshold",
    "threshold": 5,
    "withheld": {"groups": 1, "cells": 3},
}
OVER_TIME_EXAMPLE: Object = {
    **HEAD_EXAMPLE,
    "interval": "hour",
    "buckets": [f"{EXAMPLE_DAY}T{hour:02}:00:00Z" for hour in range(3)],
    "next": None,
}
