"""Bodies taken apart into their items: a batch of them, a bare list, or a single one. Pure."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import msgspec

from ingest.formats.json_values import INT64, RepeatedKey, check_nesting, check_values
from ingest.records import (
    REFUSALS_KEPT,
    InvalidRecord,
    Limits,
    MalformedBatch,
    Rejection,
)

T = TypeVar("T")

_SHAPE_FIELDS = 50
_TYPES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
}


class Body(msgspec.Struct, frozen=True):
    """A body taken apart: its items, and the batch's own fields beside them."""

    items: list[Any]
    batch: dict[str, Any]
    # The item that is the whole body, if it is one.
    single: dict[str, Any] | None = None


def take_apart(value: Any, name: str, marks: Collection[str], limits: Limits) -> Body:
    """The items of a body, which stand under `name` in a batch.

    An object without them is an item by itself where it has one of the `marks` of one.
    """
    if isinstance(value, list):
        return Body(_checked(value, name, limits), {})
    if not isinstance(value, dict):
        raise MalformedBatch("invalid_type", "The body must be an object or a list")
    if name not in value and any(mark in value for mark in marks):
        return Body([value], {}, single=value)
    if isinstance(value, RepeatedKey):
        raise MalformedBatch("duplicate_key", "A key occurs twice in the batch")
    items = _checked(value.get(name), name, limits)
    return Body(items, {key: value[key] for key in value if key != name})


def _checked(items: Any, name: str, limits: Limits) -> list[Any]:
    if items is None:
        raise MalformedBatch("missing_field", f"Missing required field: {name}", name)
    if not isinstance(items, list):
        raise MalformedBatch("invalid_type", f"{name} must be a list", name)
    if not items:
        raise MalformedBatch("no_events", f"{name} is empty", name)
    if len(items) > limits.batch_events:
        raise MalformedBatch(
            "too_many_events",
            f"{len(items)} {name} in one batch; at most {limits.batch_events} are taken",
            name,
        )
    return items


@contextmanager
def blaming_the_batch() -> Iterator[None]:
    """What is invalid in here is so of the whole batch."""
    try:
        yield
    except InvalidRecord as reason:
        raise MalformedBatch(reason.code, reason.message, reason.field) from None


def one_by_one(
    items: list[Any],
    read: Callable[[int, dict[str, Any]], T],
    noun: str,
    clean: bool,
    limits: Limits,
) -> tuple[list[T], list[Rejection]]:
    """What `read` makes of each item, and why each other one is refused.

    `clean` is whether the body is known to keep the rules on text and numbers.
    """
    taken: list[T] = []
    refused: list[Rejection] = []
    for index, item in enumerate(items):
        try:
            if not isinstance(item, dict):
                raise InvalidRecord("invalid_type", f"{noun} must be an object")
            if clean:
                check_nesting(item, limits)
            else:
                check_values(item, limits)
            taken.append(read(index, item))
        except InvalidRecord as reason:
            refused.append(Rejection(index, reason.code, reason.message, reason.field))
    return taken, _with_shapes(refused, items)


def _with_shapes(refused: list[Rejection], items: list[Any]) -> list[Rejection]:
    """The refusals, those that are kept with their items' shapes."""
    kept = refused[:REFUSALS_KEPT]
    ids = set(_ids_in([items[rejection.index] for rejection in kept]))
    return [
        msgspec.structs.replace(rejection, shape=shape(items[rejection.index], ids))
        for rejection in kept
    ] + refused[REFUSALS_KEPT:]


# What a field is called whose name holds an id.
ID = "[id]"
_NAMES_OF_IDS = ("id", "user")
# Shorter ones stand in many a name by chance.
_SHORTEST_ID = 4
# With more than so many no name is looked at for each: none is kept.
_MOST_IDS = 2_000


def shape(item: Any, ids: Collection[str]) -> dict[str, str]:
    """Names and types of an item's fields (50 at the most), without a value.

    Nor is an id kept that stands in a name.
    """
    if not isinstance(item, dict):
        return {"": _TYPES[type(item)]}
    return {
        _storable(name_without(name, ids)[:200]): _TYPES.get(type(field), "object")
        for name, field in islice(item.items(), _SHAPE_FIELDS)
    }


def _ids_in(items: list[Any]) -> Iterator[str]:
    """What fields that are named after ids hold, however deep they stand."""
    left: list[tuple[bool, Any]] = [(False, items)]
    while left:
        named, value = left.pop()
        if isinstance(value, dict):
            left += [(name.lower().endswith(_NAMES_OF_IDS), field) for name, field in value.items()]
        elif isinstance(value, list):
            left += [(named, field) for field in value]
        elif named and (isinstance(value, str) or (type(value) is int and value in INT64)):
            text = str(value)
            if len(text) >= _SHORTEST_ID:
                yield text


def name_without(name: str, ids: Collection[str]) -> str:
    """The name of a field, unless one of these ids stands in it."""
    return ID if len(ids) > _MOST_IDS or any(text in name for text in ids) else name


def _storable(name: str) -> str:
    return name.replace("\0", "\ufffd").encode(errors="replace").decode()
