"""Attributes as JSON has them, and what those of a resource and its scope say of all in it. Pure.

What becomes text and numbers here keeps the rules that `json_values` has for both.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from ingest.formats import fields
from ingest.formats.json_values import check_names
from ingest.formats.otlp.frames import Group
from ingest.formats.otlp.items import message
from ingest.records import InvalidRecord, Limits

# Whom something is of: the first that is there; none is kept as it is.
USERS = ("user.id", "enduser.id")
SESSION, VERSION, NODE = "session.id", "service.version", "service.instance.id"

_CONTAINERS = ("array_value", "kvlist_value")


def mapping(attributes: Sequence[KeyValue], limits: Limits, depth: int = 1) -> dict[str, Any]:
    """Attributes by their names; of two with one name the last one holds.

    Raises InvalidRecord. `depth` is how deep they stand, the outermost at 1.
    """
    found: dict[str, Any] = {}
    for attribute in attributes:
        value = attribute.value
        kind = value.WhichOneof("value")
        if kind == "string_value":
            found[attribute.key] = value.string_value
        else:
            found[attribute.key] = _other(value, kind, limits, depth)
    check_names(found, limits)
    return found


def plain(value: AnyValue, limits: Limits, depth: int = 1) -> Any:
    """A value as JSON has it, bytes as base64. Raises InvalidRecord."""
    return _other(value, value.WhichOneof("value"), limits, depth)


def _other(value: AnyValue, kind: str | None, limits: Limits, depth: int) -> Any:
    if kind == "double_value" and not math.isfinite(value.double_value):
        raise InvalidRecord("number_out_of_range", "A number is not finite or too large")
    if kind in _CONTAINERS and depth >= limits.depth:
        raise InvalidRecord("too_deep", f"Nested more than {limits.depth} levels deep")
    if kind == "array_value":
        return [plain(item, limits, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return mapping(value.kvlist_value.values, limits, depth + 1)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind) if kind is not None else None


def taken(names: Sequence[str], attributes: dict[str, Any], limits: Limits) -> str | None:
    """The first of these ids that there is; all of them are taken out of `attributes`."""
    found = [
        fields.identifier(attributes.pop(name), name, limits)
        for name in names
        if name in attributes
    ]
    return next(filter(None, found), None)


@dataclass(frozen=True, slots=True)
class Source:
    """What a group says for all of its items: whom they are of, what sent them."""

    user_id: str | None
    session_id: str | None
    version: str | None
    scope: str | None
    # The other attributes of the resource.
    attributes: dict[str, Any]


def source(group: Group, encoding: str, limits: Limits) -> Source:
    """Who sent a group; raises InvalidRecord, which holds for each of its items."""
    most = limits.event_bytes
    scope = message(InstrumentationScope, group.scope, encoding, most)
    resource = message(Resource, group.resource, encoding, most)
    found = mapping(resource.attributes, limits, depth=2)
    return Source(
        taken(USERS, found, limits),
        taken((SESSION,), found, limits),
        taken((VERSION,), found, limits),
        fields.word(scope.name, "scope.name", limits),
        found,
    )
