"""What each kind of metric measures: from the JSON value of one to its point. Pure."""

from collections.abc import Callable
from typing import Any

from ingest.formats.fields import required
from ingest.records import InvalidRecord, Limits, Point

SUMMARY = frozenset({"count", "sum", "min", "max"})

_SAMPLE_BYTES = 8
_COUNTS = range(2**63)


def measure(point: Point, value: Any, limits: Limits) -> None:
    """Fill in what `value` says, by the point's kind.

    Raises InvalidRecord where it is no value of this kind, and where tags and samples (of 8 bytes
    each, as they are stored) are more than an event may have.
    """
    _READERS[point.kind](point, required(value, "value"))
    if len(point.tags) + _SAMPLE_BYTES * len(point.samples or ()) > limits.event_bytes:
        raise InvalidRecord(
            "event_too_large", f"A metric is larger than {limits.event_bytes} bytes"
        )


def _gauge(point: Point, value: Any) -> None:
    point.value = _number(value, "value")


def _counter(point: Point, value: Any) -> None:
    """A counter only grows: what goes both ways is a gauge, whose sum nobody takes.

    Were a negative delta taken, it would undo what others counted.
    """
    point.value = _number(value, "value")
    if point.value < 0:
        raise InvalidRecord("invalid_value", "A counter's value must not be negative", "value")


def _histogram(point: Point, value: Any) -> None:
    """Its samples; a number is one sample."""
    if not isinstance(value, list):
        point.samples = [_number(value, "value")]
    elif not value:
        raise InvalidRecord("invalid_value", "A histogram's list of values is empty", "value")
    else:
        point.samples = [_number(sample, "value") for sample in value]


def _summary(point: Point, value: Any) -> None:
    """Count, sum and extremes; of nothing counted there are no extremes, whatever is said."""
    if not isinstance(value, dict):
        raise InvalidRecord(
            "invalid_type", "A summary's value must be an object of count, sum, min, max", "value"
        )
    point.count = _count(value.get("count"))
    point.sum = _part(value, "sum")
    if not point.count:
        if point.sum:
            raise InvalidRecord("invalid_value", "A sum of nothing must be 0", "value.sum")
        return
    point.min = _part(value, "min")
    point.max = _part(value, "max")
    if point.min > point.max:
        raise InvalidRecord("invalid_value", "min must not be larger than max", "value.min")


def _count(value: Any) -> int:
    number = required(value, "value.count")
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if type(number) is not int:
        raise InvalidRecord("invalid_type", "count must be a whole number", "value.count")
    if number not in _COUNTS:
        raise InvalidRecord(
            "invalid_value", "count must be from 0 to what 63 bits hold", "value.count"
        )
    return number


def _part(summary: dict[str, Any], name: str) -> float:
    field = f"value.{name}"
    return _number(required(summary.get(name), field), field)


def _number(value: Any, field: str) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise InvalidRecord("invalid_type", f"{field} must be a number", field)


_READERS: dict[str, Callable[[Point, Any], None]] = {
    "counter": _counter,
    "gauge": _gauge,
    "meter": _gauge,
    "histogram": _histogram,
    "summary": _summary,
}
