"""JSON values as OpenTelemetry's attributes, and what says where they are from. Pure.

By the specification's rules for arbitrary data: what is nested stays nested, null is the empty
value, and a whole number of more than 63 bits is its decimal digits.
"""

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

# What tells our exports from others', to their readers and to our own receiver.
SDK_NAME = "client-telemetry"
SESSION = "session.id"
USER = "user.id"
# By these a receiver knows a person or session; and an attribute must have a name.
PERSONAL = frozenset({USER, "enduser.id", SESSION, ""})
# Before the name of a property or tag that is also one of ours.
SENT = "sent."

_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


def describe(resource: Resource, project_slug: str, **more: str | None) -> None:
    """Say in a resource whose it is; `more` are attributes of the service, such as `version`."""
    add = resource.attributes.add
    set_text(add, "service.name", project_slug)
    for name, value in more.items():
        if value is not None:
            set_text(add, f"service.{name}", value)
    set_text(add, "telemetry.sdk.name", SDK_NAME)


def renamed(values: dict[str, Any], ours: frozenset[str]) -> dict[str, Any]:
    """The values, those whose names are ours by others: these always say what we say."""
    for name in ours & values.keys():
        value = values.pop(name)
        while name in values or name in ours:
            name = SENT + name
        values[name] = value
    return values


def set_text(add: Callable[[], KeyValue], key: str, text: str) -> None:
    """Add an attribute that is a text."""
    attribute = add()
    attribute.key = key
    attribute.value.string_value = text


def set_all(add: Callable[[], KeyValue], values: Mapping[str, Any]) -> None:
    """Add the attributes of a JSON object."""
    for key, value in values.items():
        attribute = add()
        attribute.key = key
        target, kind = attribute.value, type(value)
        # The common ones, in place of a call for each.
        if kind is str:
            target.string_value = value
        elif kind is float:
            target.double_value = value
        elif kind is int and value in _INT64:
            target.int_value = value
        else:
            set_value(target, value)


def set_value(target: AnyValue, value: Any) -> None:
    """Make `target` say the same as a JSON value."""
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, int):
        _set_whole(target, value)
    elif isinstance(value, dict):
        target.kvlist_value.SetInParent()
        set_all(target.kvlist_value.values.add, value)
    elif isinstance(value, list):
        target.array_value.SetInParent()
        for item in value:
            set_value(target.array_value.values.add(), item)
    else:
        target.SetInParent()


def _set_whole(target: AnyValue, value: int) -> None:
    if value in _INT64:
        target.int_value = value
    elif value in _UINT64:
        target.string_value = str(value)
    else:
        # No decoder takes such a whole number: it is a float, as PostgreSQL writes it.
        target.double_value = float(value)
