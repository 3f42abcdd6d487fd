"""What may be asked, and how it is refused."""

from collections.abc import Sequence
from typing import Any

from aggregation.queries.parameters import (
    DEFAULT_BUCKETS,
    DEFAULT_GROUPS,
    FORMATS,
    INTERVALS,
    MOST_GROUPS,
    TEXT_LENGTH,
)
from telemetry_site.openapi import EXAMPLE_DAY, WRONG_HOST, Object, refusal

MOMENT: Object = {"type": "string", "format": "date-time"}


def parameter(name: str, description: str, value: Object, example: Any = None) -> Object:
    shown = {} if example is None else {"example": example}
    return {"name": name, "in": "query", "description": description, "schema": value, **shown}


def moment(name: str, description: str, hour: int) -> Object:
    value = {"anyOf": [MOMENT, {"type": "string", "format": "date"}, {"const": ""}]}
    return parameter(name, description, value, f"{EXAMPLE_DAY}T{hour:02}:00:00Z")


def text(name: str, description: str, example: str | None = None) -> Object:
    return parameter(name, description, {"type": "string", "maxLength": TEXT_LENGTH}, example)


def word(name: str, description: str, words: Sequence[str], default: str) -> Object:
    value = {"type": "string", "enum": list(words), "default": default}
    return parameter(name, description, value)


_DEFAULTS = ", ".join(
    f"{DEFAULT_BUCKETS[level]} {name}s where the interval is {name}"
    for name, level in INTERVALS.items()
)
FROM = moment(
    "from",
    "The first bucket has it in it. A date, or a time without an offset, is of the zone `tz`. "
    f"By default: {_DEFAULTS}.",
    0,
)
TO = moment("to", "The last bucket ends there, or has it in it. By default the one of now.", 12)
TZ = text(
    "tz",
    "A time zone of the IANA database, UTC by default: its days and months. They are added up "
    "from hours, so it must be whole hours off UTC.",
    "Europe/Vienna",
)
INTERVAL = word("interval", "The length of a bucket.", list(INTERVALS), "day")
FORMAT = word("format", "CSV has what stands before the numbers in its headers.", FORMATS, "json")
LIMIT = parameter(
    "limit",
    "So many groups, the largest first.",
    {"type": "integer", "minimum": 1, "maximum": MOST_GROUPS, "default": DEFAULT_GROUPS},
)
CURSOR = text("cursor", "The `next` of the page before; everything else must be as it was asked.")

# --- refusals ---

FORBIDDEN = refusal(403, "Not with this key.", {"wrong_scope": "This needs a key of scope secret."})
WRONG = {
    **WRONG_HOST,
    "unknown_parameter": "colour: is no parameter here. There are: from, to, tz, format",
    "invalid_value": "tz: must be a time zone of the IANA database, such as Europe/Vienna",
    "invalid_character": "tz: must not contain NUL",
    "too_long": f"tz: must be at most {TEXT_LENGTH} characters long",
    "invalid_timestamp": "from: must be a time such as 2026-11-20T10:30:00Z (RFC 3339), or a date",
    "invalid_range": "from: must lie before to, and before now",
    "too_old": "from: must not lie before 2026-08-22. Hours, and the days of time zones before "
    "that aren't there any more: ask for less time or, in UTC, for a longer interval",
    "too_costly": "from: must lie closer to `to`: at most 2400 hours are answered at once. Ask "
    "for less time, or for a longer interval",
}
OF_GROUPS = {
    "invalid_value": "group_by: must be one of those that the project declares: event, version",
    "out_of_range": f"limit: must be a number from 1 to {MOST_GROUPS}",
}
PRIVATE = {
    "private_mode": "interval: must be day or month: in private mode hours aren't released",
}
UNRELEASED = {
    "private_mode": "project: is in private mode, in which only counts of events by whole days "
    "are released: measurements, and whatever else there is, aren't",
}
WRONG_DESCRIPTION = "A parameter that is wrong: which one, and what it must be."
