"""One message of a request, in protobuf or in JSON, as the official class has it. Pure.

In JSON, OTLP has names in lowerCamelCase, ids of traces and spans in hexadecimal digits, numbers of
64 bits as strings or numbers, and enumerations as numbers (names are taken as well). What isn't
known is ignored. `google.protobuf.json_format` knows nothing of the ids, and takes five times as
long.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, TypeVar, cast

import msgspec
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from ingest.formats.json_values import UNDECODABLE
from ingest.formats.otlp.frames import JSON
from ingest.records import EPOCH, InvalidRecord, Limits

M = TypeVar("M", bound=Message)

# NUL as JSON has it, or a backslash and five characters.
ESCAPED_NUL = b"\\u0000"

# As it is written a message may be so many times as long as an event as it is stored: what that is
# will be known of it once it is read. Of the shortest fields so much makes five megabytes.
_LONGER = 4
# As deep as protobuf's own parser goes.
_DEEPEST = 100
_IDS = frozenset({"trace_id", "span_id", "parent_span_id"})
_decode = msgspec.json.Decoder().decode
_Fields = dict[str, tuple[str, Callable[[Any, int], Any]]]


def message(kind: type[M], item: bytes, encoding: str, limits: Limits) -> M:
    """The message that is written in `item`; raises InvalidRecord for what is none, or too long."""
    most = _LONGER * limits.event_bytes
    if len(item) > most:
        raise InvalidRecord(
            "event_too_large", f"{kind.DESCRIPTOR.name} is larger than {most} bytes"
        )
    if encoding == JSON:
        return _from_json(kind, item)
    try:
        return kind.FromString(item)
    except DecodeError:
        raise InvalidRecord(
            "malformed_protobuf", f"{kind.DESCRIPTOR.name} is no such protobuf message"
        ) from None


def moment(nanoseconds: int) -> datetime | None:
    """A time, to the microsecond; None where nothing is said. Until the year 2554: the calendar has
    all."""
    return EPOCH + timedelta(microseconds=nanoseconds // 1000) if nanoseconds else None


def _from_json(kind: type[M], item: bytes) -> M:
    try:
        described = cast("Descriptor", kind.DESCRIPTOR)
        return kind(**(_arguments(described, _decode(item), 0) or {}))
    except (*UNDECODABLE, TypeError, ValueError, AttributeError):
        raise InvalidRecord("invalid_type", f"{kind.DESCRIPTOR.name} is no such message") from None


def _arguments(kind: Descriptor, value: Any, depth: int) -> dict[str, Any] | None:
    """What a message's class is called with; None for no message."""
    if depth > _DEEPEST:
        raise InvalidRecord("too_deep", f"{kind.name} is nested too deeply")
    if value is None:
        return None
    known = _fields(kind)
    found: dict[str, Any] = {}
    for name, given in value.items():
        if given is not None and name in known:
            theirs, read = known[name]
            found[theirs] = read(given, depth + 1)
    return found


@cache
def _fields(kind: Descriptor) -> _Fields:
    """A message's fields by their names in JSON: the name that is theirs, and who reads them."""
    return {
        field.json_name: (field.name, partial(_each, _reader(field)))
        if field.is_repeated
        else (field.name, _reader(field))
        for field in kind.fields
    }


def _reader(field: FieldDescriptor) -> Callable[[Any, int], Any]:
    if field.message_type is not None:
        return partial(_arguments, field.message_type)
    if field.enum_type is not None:
        return partial(_enumerated, field.enum_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _identifier if field.name in _IDS else _base64
    return _BY_TYPE.get(field.cpp_type, _as_it_is)


def _each(read: Callable[[Any, int], Any], values: Any, depth: int) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError
    return [read(value, depth) for value in values]


def _as_it_is(value: Any, depth: int) -> Any:
    return value


def _integer(value: Any, depth: int) -> int:
    # Of digits only; a longer one is out of any range.
    if isinstance(value, str) and len(value) <= 20:
        return int(value)
    if type(value) is not int:
        raise TypeError
    return value


def _double(value: Any, depth: int) -> float:
    """NaN and the infinities are strings."""
    return float(value)


def _identifier(value: Any, depth: int) -> bytes:
    return binascii.unhexlify(value)


def _base64(value: Any, depth: int) -> bytes:
    return base64.b64decode(value, validate=True)


def _enumerated(kind: EnumDescriptor, value: Any, depth: int) -> int:
    named = kind.values_by_name.get(value) if isinstance(value, str) else None
    return named.number if named is not None else _integer(value, depth)


_BY_TYPE: dict[int, Callable[[Any, int], Any]] = {
    FieldDescriptor.CPPTYPE_INT32: _integer,
    FieldDescriptor.CPPTYPE_INT64: _integer,
    FieldDescriptor.CPPTYPE_UINT32: _integer,
    FieldDescriptor.CPPTYPE_UINT64: _integer,
    FieldDescriptor.CPPTYPE_DOUBLE: _double,
    FieldDescriptor.CPPTYPE_FLOAT: _double,
}
