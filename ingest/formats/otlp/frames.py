"""An export request taken apart: what each scope of each resource sent, one item at a time. Pure.

Logs and metrics are framed alike: a request holds resources, those hold scopes, and those items.
Ten megabytes of protobuf may hold five million items of nothing, which would be half a gigabyte
once they are parsed. So items are counted here before any of them is made, and stay bytes: each is
parsed by itself, and refused by itself.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from ingest.formats.json_values import UNDECODABLE
from ingest.records import MalformedBatch

# More is no exporter's request: collectors send 8,192 items at once by default.
MOST_ITEMS = 20_000
# Fields that a request, its resources and its scopes have in all; an item is one of them.
MOST_FIELDS = 5 * MOST_ITEMS
# Values of a request in JSON, by its brackets and commas.
MOST_VALUES = 1_000_000
PROTOBUF, JSON = "application/x-protobuf", "application/json"

# How a field is written, by the last three bits of what it begins with.
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_VARINT_BYTES = 10
_NULL = msgspec.Raw(b"null")
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Signal:
    """What requests of one kind call their parts in JSON, from the outside in."""

    resources: str
    scopes: str
    items: str


LOGS = Signal("resourceLogs", "scopeLogs", "logRecords")
METRICS = Signal("resourceMetrics", "scopeMetrics", "metrics")


@dataclass(frozen=True, slots=True)
class Group:
    """What one scope of one resource sent, all of it as it is written in the request.

    Groups of one resource have the same object for it, of which there is no copy.
    """

    resource: bytes
    scope: bytes
    items: list[bytes]


def groups(body: bytes, encoding: str, signal: Signal) -> list[Group]:
    """The groups of a request that hold something.

    Raises MalformedBatch for what is no request, or too much of one.
    """
    count = 0
    found: list[Group] = []
    for group in _from_json(body, signal) if encoding == JSON else _Protobuf(body).groups():
        count = _checked(count + len(group.items))
        if group.items:
            found.append(group)
    return found


def _checked(count: int) -> int:
    """So many items, where that isn't too many."""
    if count > MOST_ITEMS:
        raise MalformedBatch("too_many_events", f"The request holds more than {MOST_ITEMS} items.")
    return count


class _Protobuf:
    """A request in protobuf. Its framing has few fields, and they are found without a copy."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._left = MOST_FIELDS

    def groups(self) -> Iterator[Group]:
        """In all three kinds of message the first field and the second are what is looked for."""
        for resource in self._fields((0, len(self._body)))[1]:
            of_resource = self._fields(resource)
            described = self._message(of_resource[1])
            for scope in of_resource[2]:
                of_scope = self._fields(scope)
                items = list(map(self._bytes, of_scope[2]))
                yield Group(described, self._message(of_scope[1]), items)

    def _message(self, parts: list[_Span]) -> bytes:
        """A message that comes in parts is their sum."""
        return b"".join(map(self._bytes, parts))

    def _bytes(self, span: _Span) -> bytes:
        return self._body[slice(*span)]

    def _fields(self, span: _Span) -> dict[int, list[_Span]]:
        """Where the fields of a message are that have a length, by their numbers."""
        at, end = span
        found: dict[int, list[_Span]] = defaultdict(list)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise MalformedBatch(
                    "too_many_events", f"The request holds more than {MOST_FIELDS} parts."
                )
            tag, at = self._varint(at)
            kind = tag & 7
            if kind == _LENGTH:
                length, at = self._varint(at)
                found[tag >> 3].append((at, at + length))
                at += length
            elif kind == _VARINT:
                _, at = self._varint(at)
            elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
                at += 8 if kind == _EIGHT_BYTES else 4
            else:
                raise _malformed()
        if at > end:
            raise _malformed()
        return found

    def _varint(self, at: int) -> tuple[int, int]:
        """A number at a place, and the place behind it."""
        value = 0
        for index, byte in enumerate(self._body[at : at + _VARINT_BYTES]):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, at + index + 1
        raise _malformed()


def _malformed() -> MalformedBatch:
    return MalformedBatch("malformed_protobuf", "The body is no such protobuf message.")


def _from_json(body: bytes, signal: Signal) -> Iterator[Group]:
    if sum(map(body.count, (b"{", b"[", b","))) > MOST_VALUES:
        raise MalformedBatch(
            "too_complex",
            f"The body holds more than {MOST_VALUES} values (by its brackets and commas).",
        )
    try:
        request = _json_type(signal).decode(body)
    except msgspec.ValidationError:
        raise MalformedBatch("invalid_type", "The body is no such OTLP request.") from None
    except UNDECODABLE:
        raise MalformedBatch("malformed_json", "The body is not valid JSON.") from None
    for resource in request.held or ():
        described = bytes(resource.own)
        for scope in resource.held or ():
            items = scope.held or ()
            _checked(len(items))
            yield Group(described, bytes(scope.own), list(map(bytes, items)))


@cache
def _json_type(signal: Signal) -> Any:
    """A request in which everything but its framing is left as it is written."""
    scope = _holder("Scope", "scope", signal.items, msgspec.Raw)
    resource = _holder("Resource", "resource", signal.scopes, scope)
    return msgspec.json.Decoder(_holder("Request", "-", signal.resources, resource))


def _holder(name: str, own: str, held: str, type: Any) -> Any:
    return msgspec.defstruct(
        name,
        [
            ("own", msgspec.Raw, msgspec.field(name=own, default=_NULL)),
            ("held", list[type] | None, msgspec.field(name=held, default=None)),
        ],
    )
