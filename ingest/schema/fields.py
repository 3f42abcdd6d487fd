"""Fields that several formats have, as JSON Schema. What may be absent may as well be null."""

from typing import Any

from django.conf import settings

from ingest.records import CATEGORIES, DEFAULT_CATEGORY
from telemetry_site.openapi import Object, schema

LENGTH = settings.MAX_NAME_LENGTH
FIELD_NAMES = {"maxLength": LENGTH}
NAME: Object = {"type": "string", "minLength": 1, "maxLength": LENGTH}
WORD: Object = {"type": ["string", "null"], "maxLength": LENGTH}
TEXT: Object = {"type": ["string", "null"]}
MOMENT: Object = {"type": "string", "format": "date-time"}
_WHOLE = {"minimum": -(2**63), "maximum": 2**64 - 1}
_ABSENT: list[Object] = [{"const": ""}, {"type": "null"}]

TIME = schema(
    "Time",
    {
        "description": "RFC 3339, or whole milliseconds since 1970.",
        "anyOf": [MOMENT, {"type": "integer", "minimum": 10**11, "maximum": 253402300799999}],
    },
)
OPTIONAL_TIME = schema("OptionalTime", {"anyOf": [TIME, *_ABSENT]})
OPTIONAL_MOMENT = schema("OptionalMoment", {"anyOf": [MOMENT, *_ABSENT]})
CLOCK = (
    "The client's clock when it sent this. Where it runs more than five minutes ahead, the times "
    "of the batch are corrected by the difference."
)
IDENTIFIER = schema(
    "Identifier",
    {
        "description": "A text, or a whole number taken for its digits.",
        "type": ["string", "integer"],
        "minLength": 1,
        "maxLength": LENGTH,
        **_WHOLE,
    },
)
OPTIONAL_IDENTIFIER = schema(
    "OptionalIdentifier",
    {
        "description": "A text, or a whole number taken for its digits.",
        "type": ["string", "integer", "null"],
        "maxLength": LENGTH,
        **_WHOLE,
    },
)
BATCH_ID = schema(
    "BatchId",
    {
        "description": "Makes sending again safe: for 31 days the same id is a duplicate. "
        "Where there is none, one is made.",
        "anyOf": [{"type": "string", "format": "uuid"}, *_ABSENT],
    },
)
CATEGORY = schema(
    "Category",
    {"description": f"By default {DEFAULT_CATEGORY}.", "enum": [*sorted(CATEGORIES), None]},
)


def record(name: str, description: str, required: list[str], /, **properties: Any) -> Object:
    """Name the schema of an object; the reference to it."""
    return schema(
        name,
        {
            "description": description,
            "type": "object",
            "required": required,
            "properties": properties,
            "propertyNames": FIELD_NAMES,
        },
    )


def batch(name: str, description: str, items: str, item: Object, /, **properties: Any) -> Object:
    """The schema of a body: a batch of items, a list of them, or a single one."""
    several = {
        "type": "array",
        "items": item,
        "minItems": 1,
        "maxItems": settings.MAX_BATCH_EVENTS,
    }
    whole = record(name, description, [items], **properties, **{items: several})
    return {"anyOf": [whole, several, item]}
