"""What the OpenAPI document says of questions about numbers."""

from collections.abc import Sequence
from typing import Any

from aggregation.queries.parameters import (
    AGGREGATES,
    DEFAULT_BUCKETS,
    DEFAULT_GROUPS,
    FORMATS,
    INTERVALS,
    MOST_GROUPS,
    TEXT_LENGTH,
)
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


# --- parameters ---


def _parameter(name: str, description: str, value: Object, example: Any = None) -> Object:
    shown = {} if example is None else {"example": example}
    return {"name": name, "in": "query", "description": description, "schema": value, **shown}


def _time(name: str, description: str, hour: int) -> Object:
    value = {"anyOf": [MOMENT, {"type": "string", "format": "date"}, {"const": ""}]}
    return _parameter(name, description, value, f"{EXAMPLE_DAY}T{hour:02}:00:00Z")


def _text(name: str, description: str, example: str | None = None) -> Object:
    return _parameter(name, description, {"type": "string", "maxLength": TEXT_LENGTH}, example)


def _word(name: str, description: str, words: Sequence[str], default: str) -> Object:
    value = {"type": "string", "enum": list(words), "default": default}
    return _parameter(name, description, value)


_DEFAULTS = ", ".join(
    f"{DEFAULT_BUCKETS[level]} {name}s where the interval is {name}"
    for name, level in INTERVALS.items()
)
FROM = _time(
    "from",
    "The first bucket has it in it. A date, or a time without an offset, is of the zone `tz`. "
    f"By default: {_DEFAULTS}.",
    0,
)
TO = _time("to", "The last bucket ends there, or has it in it. By default the one of now.", 12)
TZ = _text(
    "tz",
    "A time zone of the IANA database, UTC by default: its days and months. They are added up "
    "from hours, so it must be whole hours off UTC.",
    "Europe/Vienna",
)
INTERVAL = _word("interval", "The length of a bucket.", list(INTERVALS), "day")
FORMAT = _word("format", "CSV has what stands before the numbers in its headers.", FORMATS, "json")
LIMIT = _parameter(
    "limit",
    "So many groups, the largest first.",
    {"type": "integer", "minimum": 1, "maximum": MOST_GROUPS, "default": DEFAULT_GROUPS},
)
CURSOR = _text("cursor", "The `next` of the page before; everything else must be as it was asked.")

# --- refusals and headers ---

_FORBIDDEN = refusal(
    403, "Not with this key.", {"wrong_scope": "This needs a key of scope secret."}
)
_WRONG = {
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
_OF_GROUPS = {
    "invalid_value": "group_by: must be one of those that the project declares: event, version",
    "out_of_range": f"limit: must be a number from 1 to {MOST_GROUPS}",
}
_PRIVATE = {
    "private_mode": "interval: must be day or month: in private mode hours aren't released",
}
_UNRELEASED = {
    "private_mode": "project: is in private mode, in which only counts of events by whole days "
    "are released: measurements, and whatever else there is, aren't",
}
_WRONG_DESCRIPTION = "A parameter that is wrong: which one, and what it must be."


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


def _numbers(description: str, content: Object, shown: Any, table: str) -> Object:
    """An answer in JSON or CSV."""
    described = answer(description, content, examples(answer=shown), LIMITS | _CSV_HEADERS)
    described["content"]["text/csv"] = {"schema": {"type": "string"}, "examples": examples(a=table)}
    return described


# --- what every answer has ---

_STANDING: Object = {
    "complete_until": MOMENT
    | {"description": "All events that are stored, and occurred before, are in the numbers."},
    "clean_until": MOMENT
    | {"description": "Whoever asked for erasure before is not in the numbers."},
}
_SPAN: Object = {
    "from": MOMENT | {"description": "As answered: the first moment of the first bucket."},
    "to": MOMENT | {"description": "As answered: the last bucket ends there."},
    "tz": {"type": "string"},
    **_STANDING,
    "mode": {"type": "string", "enum": ["threshold", "private"]},
}
_THRESHOLD: Object = {
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
_OVER_TIME: Object = {
    **_SPAN,
    "interval": {"type": "string", "enum": list(INTERVALS)},
    "group_by": {"type": ["string", "null"]},
    "buckets": {"type": "array", "items": MOMENT, "description": "The first moment of each."},
    "next": {"type": ["string", "null"], "description": "The `cursor` of the next page."},
}
_VALUE: Object = {
    "type": ["string", "null"],
    "description": "Null where nothing is grouped. `(none)` are those without a value, `(other)` "
    "the rarest, counted together; `(few)` is what had too few people when its month was sealed.",
}
_MAYBE: Object = {"type": ["integer", "null"]}
_TOLD: Object = {"type": "array", "items": _MAYBE}
_CELLS: Object = {
    "type": "array",
    "items": COUNT,
    "description": "How many cells of each bucket are withheld: the numbers are of the rest. In "
    "private mode, how many of its days aren't released.",
}


# What says how persons are protected: of the two modes one.
_MODES: Object = {
    **_THRESHOLD,
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


def _list_of(name: str, properties: Object) -> Object:
    item = {"type": "object", "required": list(properties), "properties": properties}
    return {"type": "array", "items": schema(name, item)}


def _object(name: str, properties: Object, optional: Object | None = None) -> Object:
    whole = properties | (optional or {})
    return schema(name, {"type": "object", "required": list(properties), "properties": whole})


_HEAD_EXAMPLE: Object = {
    "from": f"{EXAMPLE_DAY}T00:00:00Z",
    "to": f"{EXAMPLE_DAY}T03:00:00Z",
    "tz": "UTC",
    "complete_until": f"{EXAMPLE_DAY}T12:34:56.123456Z",
    "clean_until": f"{EXAMPLE_DAY}T12:34:56.123456Z",
    "mode": "threshold",
    "threshold": 5,
    "withheld": {"groups": 1, "cells": 3},
}
_OVER_TIME_EXAMPLE: Object = {
    **_HEAD_EXAMPLE,
    "interval": "hour",
    "buckets": [f"{EXAMPLE_DAY}T{hour:02}:00:00Z" for hour in range(3)],
    "next": None,
}

# --- events ---

EVENTS_ANSWER = _object(
    "EventsOverTime",
    {
        **_OVER_TIME,
        "groups": _list_of(
            "EventGroup",
            {
                "value": _VALUE,
                "count": _TOLD | {"description": "Events. Null where they are withheld."},
                "people": _TOLD | {"description": "Distinct users, else sessions."},
                "sessions": _TOLD | {"description": "Distinct sessions."},
                "bytes": _TOLD | {"description": "Of the events as they are stored."},
                "withheld": _CELLS,
            },
        ),
    },
    _MODES,
)
EVENTS = operation(
    "Queries",
    "How many events, of how many people?",
    "Over time: of all events, of those of one name, or by their names or a dimension that the "
    "project declares. Times are widened to whole buckets; buckets without an event are 0. People "
    "and sessions are distinct ones of each bucket (1.4 % of error at most; exact while few), so "
    "they don't add up to those of a longer one; of a zone's day with something withheld there "
    "are none. In private mode there are days and months of UTC, of all events and by name.",
    {
        **REFUSALS,
        200: _numbers(
            "The numbers, a list of one a bucket for each group.",
            EVENTS_ANSWER,
            {
                **_OVER_TIME_EXAMPLE,
                "group_by": "event",
                "groups": [
                    {
                        "value": "plugin_loaded",
                        "count": [412, 0, None],
                        "people": [96, 0, None],
                        "sessions": [101, 0, None],
                        "bytes": [52140, 0, None],
                        "withheld": [0, 0, 1],
                    }
                ],
            },
            "time,event,count,people,sessions,bytes,withheld\r\n"
            f"{EXAMPLE_DAY}T00:00:00+00:00,plugin_loaded,412,96,101,52140,0\r\n",
        ),
        400: refusal(400, _WRONG_DESCRIPTION, _WRONG | _OF_GROUPS | _PRIVATE),
        403: _FORBIDDEN,
    },
    [
        FROM,
        TO,
        INTERVAL,
        _text("event", "Only events of this name.", "plugin_loaded"),
        _text(
            "group_by",
            "`event`, or the name of a dimension. One that is declared for one event needs "
            "`event` to name it; one that is declared for all takes no `event`.",
        ),
        TZ,
        FORMAT,
        LIMIT,
        CURSOR,
    ],
)

# --- days ---

DAILY_ANSWER = _object(
    "Daily",
    {
        **_SPAN,
        "days": _list_of(
            "Day",
            {
                "date": {"type": "string", "format": "date"},
                "total_events": _MAYBE | {"description": "Null where they are withheld."},
                "unique_users": _MAYBE | {"description": "Distinct users, else sessions."},
                "total_bytes": _MAYBE | {"description": "Of the events as they are stored."},
            },
        ),
    },
    _MODES,
)
DAILY = operation(
    "Queries",
    "Each day's events, users and bytes.",
    "The latest day first; days without an event are 0.",
    {
        **REFUSALS,
        200: _numbers(
            "The days.",
            DAILY_ANSWER,
            {
                **_HEAD_EXAMPLE,
                "to": f"{EXAMPLE_DAY}T23:00:00Z",
                "withheld": {"groups": 0, "cells": 0},
                "days": [
                    {
                        "date": EXAMPLE_DAY,
                        "total_events": 48211,
                        "unique_users": 1604,
                        "total_bytes": 9911482,
                    }
                ],
            },
            f"date,total_events,unique_users,total_bytes\r\n{EXAMPLE_DAY},48211,1604,9911482\r\n",
        ),
        400: refusal(400, _WRONG_DESCRIPTION, _WRONG | _PRIVATE),
        403: _FORBIDDEN,
    },
    [FROM, TO, TZ, FORMAT],
)

# --- metrics ---

METRICS_ANSWER = _object(
    "MetricOverTime",
    {
        "name": {"type": "string"},
        "agg": {"type": "string", "enum": list(AGGREGATES)},
        **_OVER_TIME,
        **_THRESHOLD,
        "groups": _list_of(
            "MetricGroup",
            {
                "value": _VALUE,
                "values": {
                    "type": "array",
                    "items": {"type": ["number", "null"]},
                    "description": "Null where nothing was measured or all is withheld; what adds "
                    "up (sum, count, rate) is 0 where nothing was measured.",
                },
                "withheld": _CELLS,
            },
        ),
    },
)
METRICS = operation(
    "Queries",
    "How large was it?",
    "A metric over time. The series of its name (each of one node and some tags) are merged, or "
    "by node or one of their tags; of cumulative counters what they grew, resets recognised. "
    "Quantiles are 1 % off at most. Series that are no person's are told whatever their size; of "
    "others what is withheld isn't in the numbers.",
    {
        **REFUSALS,
        200: _numbers(
            "The numbers, one a bucket for each group.",
            METRICS_ANSWER,
            {
                **_OVER_TIME_EXAMPLE,
                "name": "latency_ms",
                "agg": "p95",
                "group_by": "node",
                "withheld": {"groups": 0, "cells": 0},
                "groups": [
                    {"value": "eu-1", "values": [212.5, None, 230.1], "withheld": [0, 0, 0]}
                ],
            },
            f"time,node,values,withheld\r\n{EXAMPLE_DAY}T00:00:00+00:00,eu-1,212.5,0\r\n",
        ),
        400: refusal(
            400,
            _WRONG_DESCRIPTION,
            _WRONG | _OF_GROUPS | _UNRELEASED | {"missing_field": "name: must name a metric"},
        ),
        403: _FORBIDDEN,
    },
    [
        _parameter(
            "name",
            "The metric's.",
            {"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH},
            "latency_ms",
        )
        | {"required": True},
        _word("agg", "What is told of a bucket; `rate` is a second's.", AGGREGATES, "avg"),
        FROM,
        TO,
        INTERVAL,
        _text("node", "Only series of this node.", "eu-1"),
        _text("tags", "Only series with these tags.", "route:/upload,region:eu"),
        _text("group_by", "`node`, or the name of a tag."),
        TZ,
        FORMAT,
        LIMIT,
        CURSOR,
    ],
)

# --- nodes ---

NODES_ANSWER = _object(
    "Nodes",
    {
        **_STANDING,
        "nodes": _list_of(
            "NodeSnapshot",
            {
                "node_id": {"type": "string"},
                "timestamp": MOMENT | {"description": "Of the snapshot, as the node sent it."},
                "fields": {"type": "object", "additionalProperties": {"type": "number"}},
            },
        ),
    },
)
NODES = operation(
    "Queries",
    "How is each node?",
    "The latest snapshot of each node that sent one this month or in the one before. Operational: "
    "no person in it, so nothing is withheld.",
    {
        **REFUSALS,
        200: _numbers(
            "The nodes, by their ids.",
            NODES_ANSWER,
            {
                "complete_until": f"{EXAMPLE_DAY}T12:34:56.123456Z",
                "clean_until": f"{EXAMPLE_DAY}T12:34:56.123456Z",
                "nodes": [
                    {
                        "node_id": "192.168.100.27",
                        "timestamp": f"{EXAMPLE_DAY}T10:00:00Z",
                        "fields": {"cpu_percent": 45.2, "memory_percent": 67.8},
                    }
                ],
            },
            "node_id,timestamp,cpu_percent,memory_percent\r\n"
            f"192.168.100.27,{EXAMPLE_DAY}T10:00:00+00:00,45.2,67.8\r\n",
        ),
        400: refusal(
            400,
            _WRONG_DESCRIPTION,
            {
                **WRONG_HOST,
                "unknown_parameter": "colour: is no parameter here. There are: format",
                "invalid_value": "format: must be json or csv",
            },
        ),
        403: _FORBIDDEN,
    },
    [FORMAT],
)

# --- accounting ---

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
                "invalid_timestamp": _WRONG["invalid_timestamp"],
                "invalid_range": "from: must lie before to",
            },
        ),
        403: _FORBIDDEN,
    },
    [
        _time("from", "Received from then on. By default a day before `to`.", 0),
        _time("to", "Received before then. By default now.", 12),
    ],
)
