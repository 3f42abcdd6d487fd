"""A request as the bytes of a body: protobuf, or JSON as OTLP has it. Pure.

In JSON names are in lowerCamelCase, numbers of 64 bits are strings, enumerations are numbers, and
ids of traces and spans are hexadecimal digits. `google.protobuf.json_format` writes the ids in
base64, and takes three times as long.
"""

import base64
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, cast

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

PROTOBUF, JSON = "application/x-protobuf", "application/json"

_IDS = frozenset({"trace_id", "span_id"})
_encode = msgspec.json.Encoder().encode


def encode(request: Message, encoding: str) -> tuple[bytes, str]:
    """Body and content type of a request; `encoding` is "protobuf" or "json"."""
    if encoding == "protobuf":
        return request.SerializeToString(), PROTOBUF
    return _encode(_object(request)), JSON


def _object(message: Message) -> dict[str, Any]:
    """What is set in a message, by the names it has in JSON."""
    writers = _writers(cast("Descriptor", message.DESCRIPTOR))
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        name, write = writers[field.number]
        found[name] = write(value)
    return found


@cache
def _writers(kind: Descriptor) -> dict[int, tuple[str, Callable[[Any], Any]]]:
    """Name and writer of each field, by the field's number."""
    return {
        field.number: (
            field.json_name,
            partial(_each, _writer(field)) if field.is_repeated else _writer(field),
        )
        for field in kind.fields
    }


def _writer(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.message_type is not None:
        return _BY_MESSAGE.get(field.message_type.full_name, _object)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.hex if field.name in _IDS else _base64
    return _BY_TYPE.get(field.cpp_type, _as_it_is)


def _attribute(attribute: KeyValue) -> dict[str, Any]:
    """As `_object`, of what most of a request is, for a third of the time."""
    return {"key": attribute.key, "value": _value(attribute.value)}


def _value(value: AnyValue) -> dict[str, Any]:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return {"stringValue": value.string_value}
    if kind == "int_value":
        return {"intValue": str(value.int_value)}
    return _object(value)


def _each(write: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    return [write(value) for value in values]


def _as_it_is(value: Any) -> Any:
    return value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


_BY_MESSAGE: dict[str, Callable[[Any], Any]] = {
    "opentelemetry.proto.common.v1.KeyValue": _attribute,
    "opentelemetry.proto.common.v1.AnyValue": _value,
}
_BY_TYPE: dict[int, Callable[[Any], Any]] = {
    FieldDescriptor.CPPTYPE_INT64: str,
    FieldDescriptor.CPPTYPE_UINT64: str,
    FieldDescriptor.CPPTYPE_DOUBLE: _double,
}
