"""The questions: what each may be asked with, and all that it may answer."""

from aggregation.queries.parameters import AGGREGATES, TEXT_LENGTH
from aggregation.schema.answers import (
    CELLS,
    COUNT,
    HEAD_EXAMPLE,
    MAYBE,
    MODES,
    OVER_TIME,
    OVER_TIME_EXAMPLE,
    SPAN,
    STANDING,
    THRESHOLD,
    TOLD,
    VALUE,
    list_of,
    numbers,
    object_of,
)
from aggregation.schema.parameters import (
    CURSOR,
    FORBIDDEN,
    FORMAT,
    FROM,
    INTERVAL,
    LIMIT,
    MOMENT,
    OF_GROUPS,
    PRIVATE,
    TO,
    TZ,
    UNRELEASED,
    WRONG,
    WRONG_DESCRIPTION,
    moment,
    parameter,
    text,
    word,
)
from ingest.models import OUTCOMES
from telemetry_site.openapi import (
    EXAMPLE_DAY,
    LIMITS,
    REFUSALS,
    WRONG_HOST,
    answer,
    examples,
    operation,
    refusal,
    schema,
)

# --- events ---

EVENTS_ANSWER = object_of(
    "EventsOverTime",
    {
        **OVER_TIME,
        "groups": list_of(
            "EventGroup",
            {
                "value": VALUE,
                "count": TOLD | {"description": "Events. Null where they are withheld."},
                "people": TOLD | {"description": "Distinct users, else sessions."},
                "sessions": TOLD | {"description": "Distinct sessions."},
                "bytes": TOLD | {"description": "Of the events as they are stored."},
                "withheld": CELLS,
            },
        ),
    },
    MODES,
)
EVENTS = operation(
    "Queries",
    "How many events, of how many people?",
    "Over time: of all events, of those of one name, or by their names or a dimension that the "
    "project declares. Times are widened to whole buckets; buckets without an event are 0. People "
    "and sessions are distinct ones of each bucket (estimates, as a rule 1.6 % off; exact while "
    "few), so they don't add up to those of a longer one; of a zone's day with something withheld "
    "there are none. In private mode there are days and months of UTC, of all events and by name.",
    {
        **REFUSALS,
        200: numbers(
            "The numbers, a list of one a bucket for each group.",
            EVENTS_ANSWER,
            {
                **OVER_TIME_EXAMPLE,
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
        400: refusal(400, WRONG_DESCRIPTION, WRONG | OF_GROUPS | PRIVATE),
        403: FORBIDDEN,
    },
    [
        FROM,
        TO,
        INTERVAL,
        text("event", "Only events of this name.", "plugin_loaded"),
        text(
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

DAILY_ANSWER = object_of(
    "Daily",
    {
        **SPAN,
        "days": list_of(
            "Day",
            {
                "date": {"type": "string", "format": "date"},
                "total_events": MAYBE | {"description": "Null where they are withheld."},
                "unique_users": MAYBE | {"description": "Distinct users, else sessions."},
                "total_bytes": MAYBE | {"description": "Of the events as they are stored."},
            },
        ),
    },
    MODES,
)
DAILY = operation(
    "Queries",
    "Each day's events, users and bytes.",
    "The latest day first; days without an event are 0.",
    {
        **REFUSALS,
        200: numbers(
            "The days.",
            DAILY_ANSWER,
            {
                **HEAD_EXAMPLE,
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
        400: refusal(400, WRONG_DESCRIPTION, WRONG | PRIVATE),
        403: FORBIDDEN,
    },
    [FROM, TO, TZ, FORMAT],
)

# --- metrics ---

METRICS_ANSWER = object_of(
    "MetricOverTime",
    {
        "name": {"type": "string"},
        "agg": {"type": "string", "enum": list(AGGREGATES)},
        **OVER_TIME,
        **THRESHOLD,
        "groups": list_of(
            "MetricGroup",
            {
                "value": VALUE,
                "values": {
                    "type": "array",
                    "items": {"type": ["number", "null"]},
                    "description": "Null where nothing was measured or all is withheld; what adds "
                    "up (sum, count, rate) is 0 where nothing was measured.",
                },
                "withheld": CELLS,
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
        200: numbers(
            "The numbers, one a bucket for each group.",
            METRICS_ANSWER,
            {
                **OVER_TIME_EXAMPLE,
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
            WRONG_DESCRIPTION,
            WRONG | OF_GROUPS | UNRELEASED | {"missing_field": "name: must name a metric"},
        ),
        403: FORBIDDEN,
    },
    [
        parameter(
            "name",
            "The metric's.",
            {"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH},
            "latency_ms",
        )
        | {"required": True},
        word("agg", "What is told of a bucket; `rate` is a second's.", AGGREGATES, "avg"),
        FROM,
        TO,
        INTERVAL,
        text("node", "Only series of this node.", "eu-1"),
        text("tags", "Only series with these tags.", "route:/upload,region:eu"),
        text(
            "group_by",
            "`node`, or the name of a tag. Of tags that by their names tell persons, devices or "
            "sessions apart, such as `user`, there are no counts; `tags` takes none either.",
        ),
        TZ,
        FORMAT,
        LIMIT,
        CURSOR,
    ],
)

# --- nodes ---

NODES_ANSWER = object_of(
    "Nodes",
    {
        **STANDING,
        "nodes": list_of(
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
        200: numbers(
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
            WRONG_DESCRIPTION,
            {
                **WRONG_HOST,
                "unknown_parameter": "colour: is no parameter here. There are: format",
                "invalid_value": "format: must be json or csv",
            },
        ),
        403: FORBIDDEN,
    },
    [FORMAT],
)

# --- accounting ---

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
                "invalid_timestamp": WRONG["invalid_timestamp"],
                "invalid_range": "from: must lie before to",
            },
        ),
        403: FORBIDDEN,
    },
    [
        moment("from", "Received from then on. By default a day before `to`.", 0),
        moment("to", "Received before then. By default now.", 12),
    ],
)
