"""The fields that several formats have: words, ids, moments, and what becomes properties. Pure.

Each function takes a field's JSON value and the field's name, and raises InvalidRecord where it is
not what the field may be. No sentence repeats what was sent.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from ingest.formats.json_values import INT64, check_names
from ingest.records import CATEGORIES, EPOCH, InvalidRecord, Limits

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_NO_PROPERTIES = b"{}"
# From 1973 to 9999. A smaller number is one of seconds, a larger one of microseconds.
_MILLISECONDS = range(10**11, 253_402_300_800_000)


def required(value: T | None, field: str) -> T:
    """The value of a field that must be there."""
    if value is None:
        raise InvalidRecord("missing_field", f"Missing required field: {field}", field)
    return value


def word(value: Any, field: str, limits: Limits) -> str | None:
    """A short text; None where it is absent or empty."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidRecord("invalid_type", f"{field} must be a string", field)
    if len(value) > limits.name_length:
        raise InvalidRecord(
            "too_long", f"{field} is longer than {limits.name_length} characters", field
        )
    return value


def identifier(value: Any, field: str, limits: Limits) -> str | None:
    """A word, or a whole number taken for its digits: ids are numbers in many a database."""
    return word(digits(value), field, limits)


def digits(value: Any) -> Any:
    """A whole number of 64 bits as its decimal digits, anything else as it is."""
    return str(value) if type(value) is int and value in INT64 else value


def one_of(value: Any, field: str, choices: Collection[str], code: str) -> str | None:
    """One of a few words; None where it is absent."""
    if value is None or (isinstance(value, str) and value in choices):
        return value
    raise InvalidRecord(code, f"{field} must be one of {', '.join(sorted(choices))}", field)


def category(value: Any) -> str | None:
    """One of the categories of events; None where it is absent."""
    return one_of(value, "category", CATEGORIES, "invalid_category")


def text(value: Any, field: str) -> str | None:
    """A text of any length; None where it is absent."""
    if value is not None and not isinstance(value, str):
        raise InvalidRecord("invalid_type", f"{field} must be a string", field)
    return value


def moment(value: Any, field: str) -> datetime:
    """A moment as RFC 3339 writes it, in UTC; one without an offset is taken for UTC."""
    try:
        if not isinstance(required(value, field), str):
            raise ValueError
        return in_utc(msgspec.convert(value, datetime))
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise InvalidRecord(
            "invalid_timestamp",
            f"{field} must be a time such as 2026-11-20T10:30:00Z (RFC 3339)",
            field,
        ) from None


def moment_or_milliseconds(value: Any, field: str) -> datetime:
    """A moment as RFC 3339 writes it, or whole milliseconds since 1970 (`Date.now()`)."""
    if type(value) is not int:
        return moment(value, field)
    if value not in _MILLISECONDS:
        raise InvalidRecord(
            "invalid_timestamp", f"{field} as a number must be milliseconds since 1970", field
        )
    return EPOCH + timedelta(milliseconds=value)


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC; raises OverflowError at the ends of the calendar."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def when_given(value: Any, field: str, read: Callable[[Any, str], T]) -> T | None:
    """What `read` makes of an optional field; None where it is absent or empty."""
    return read(value, field) if is_given(value) else None


def is_given(value: Any) -> bool:
    """Whether an optional field says anything."""
    return value is not None and value != ""


def uuid(value: Any, field: str) -> UUID | None:
    """A batch's id; None where it is absent or empty."""
    if not is_given(value):
        return None
    try:
        return msgspec.convert(value, UUID)
    except msgspec.ValidationError:
        raise InvalidRecord("invalid_batch_id", f"{field} must be a UUID", field) from None


def properties(found: dict[str, Any], message: str | None, limits: Limits) -> bytes:
    """The JSON text of an event's properties, which with its message are bounded in size."""
    check_names(found, limits)
    encoded = _encode(found) if found else _NO_PROPERTIES
    if len(encoded) + len((message or "").encode()) > limits.event_bytes:
        raise InvalidRecord(
            "event_too_large", f"An event is larger than {limits.event_bytes} bytes"
        )
    return encoded
