"""Attributes as JSON has them, and what those of a resource and its scope say of all in it. Pure.

What becomes text and numbers here keeps the rules that `json_values` has for both.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from ingest.formats import fields
from ingest.formats.json_values import check_names, check_text, check_values
from ingest.formats.otlp.frames import MOST_VALUES, Group
from ingest.formats.otlp.items import message
from ingest.records import InvalidRecord, Limits

# Whom something is of: the first that is there; none is kept as it is.
USERS = ("user.id", "enduser.id")
SESSION, VERSION, SDK = "session.id", "service.version", "telemetry.sdk.name"
# How our own exports name what made them.
OURS = "client-telemetry"

# Properties or tags of a request's items in all: what a resource says once stands in each of them.
MOST_KEPT = 32 * 1024**2

_CONTAINERS = ("array_value", "kvlist_value")
_encode = msgspec.json.Encoder().encode


class Values:
    """Reads the values of one request, of which there may only be so many.

    In protobuf one takes two bytes, and a microsecond here. Raises InvalidRecord.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._left = MOST_VALUES
        self._room = MOST_KEPT
        self._resource: tuple[bytes, Source | InvalidRecord] | None = None

    def mapping(self, attributes: Sequence[KeyValue], depth: int = 1) -> dict[str, Any]:
        """Attributes by their names; of two with one name the last one holds.

        `depth` is how deep they stand, an item's own at 1.
        """
        self._take(len(attributes))
        found: dict[str, Any] = {}
        for attribute in attributes:
            value = attribute.value
            # By far the most are texts.
            found[attribute.key] = value.string_value or self.plain(value, depth)
        check_names(found, self.limits)
        return found

    def plain(self, value: AnyValue, depth: int = 1) -> Any:
        """A value as JSON has it, bytes as base64."""
        kind = value.WhichOneof("value")
        if kind == "double_value" and not math.isfinite(value.double_value):
            raise InvalidRecord("number_out_of_range", "A number is not finite or too large")
        if kind in _CONTAINERS:
            return self._container(value, kind, depth + 1)
        if kind == "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        return getattr(value, kind) if kind is not None else None

    def _container(self, value: AnyValue, kind: str, depth: int) -> Any:
        if depth > self.limits.depth:
            raise InvalidRecord("too_deep", f"Nested more than {self.limits.depth} levels deep")
        if kind == "kvlist_value":
            return self.mapping(value.kvlist_value.values, depth)
        values = value.array_value.values
        self._take(len(values))
        return [self.plain(item, depth) for item in values]

    def _take(self, count: int) -> None:
        if count > self._left:
            raise InvalidRecord(
                "too_complex", f"The request holds more than {MOST_VALUES} attributes and values"
            )
        self._left -= count

    def keep(self, size: int) -> None:
        """Count what an item comes to."""
        if size > self._room:
            raise InvalidRecord(
                "too_complex",
                f"With its resource in each event the request is larger than {MOST_KEPT} bytes",
            )
        self._room -= size

    def taken(self, names: Sequence[str], attributes: dict[str, Any]) -> str | None:
        """The first of these ids that there is; all of them are taken out of `attributes`."""
        found = [
            fields.identifier(attributes.pop(name), name, self.limits)
            for name in names
            if name in attributes
        ]
        return next(filter(None, found), None)

    def resource(self, written: bytes, encoding: str) -> "Source":
        """Who sent what is in a resource: read once for all of its scopes."""
        if self._resource is None or self._resource[0] is not written:
            try:
                self._resource = written, self._read(written, encoding)
            except InvalidRecord as reason:
                self._resource = written, reason
        found = self._resource[1]
        if isinstance(found, InvalidRecord):
            raise found.with_traceback(None)
        return found

    def _read(self, written: bytes, encoding: str) -> "Source":
        resource = message(Resource, written, encoding, self.limits)
        found = self.mapping(resource.attributes, depth=2)
        check_values(found, self.limits)
        return Source(
            self.taken(USERS, found),
            self.taken((SESSION,), found),
            self.taken((VERSION,), found),
            None,
            found,
            _encode(found),
            found.get(SDK) == OURS,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """What a group says for all of its items: whom they are of, what sent them."""

    user_id: str | None
    session_id: str | None
    version: str | None
    scope: str | None
    # The other attributes of the resource, and the same as JSON text.
    attributes: dict[str, Any]
    text: bytes
    # Whether our own exporter sent it.
    is_ours: bool


def source(group: Group, encoding: str, values: Values) -> Source:
    """Who sent a group; raises InvalidRecord, which holds for each of its items."""
    described = message(InstrumentationScope, group.scope, encoding, values.limits)
    scope = fields.word(described.name, "scope.name", values.limits)
    check_text(scope or "")
    return replace(values.resource(group.resource, encoding), scope=scope)
