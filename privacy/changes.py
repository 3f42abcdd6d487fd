"""What a privacy rule makes of a value. Pure.

What a value is too odd for, a text to be put in ranges say, is DROPPED: never stored as it came.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from ingest.records import EPOCH
from privacy.subjects import Pseudonyms

# What becomes of a value; DROPPED of one that goes.
Change = Callable[[Pseudonyms, Any], Any]

REDACTED = "[redacted]"

# From 1973 to 9999: a smaller number is one of seconds, a larger one of microseconds.
_MILLISECONDS = (10**11, 253_402_300_800_000)
_encode = msgspec.json.Encoder(order="deterministic").encode


class _Dropped:
    """Stands for a value that is not stored."""


DROPPED = _Dropped()


def dropped(pseudonyms: Pseudonyms, value: Any) -> Any:
    return DROPPED


def redacted(pseudonyms: Pseudonyms, value: Any) -> Any:
    return REDACTED


def hashed(pseudonyms: Pseudonyms, value: Any) -> Any:
    """The same for the same value of a project, whatever its property is called; 1 is "1"."""
    text = value if isinstance(value, str) else _encode(value).decode()
    digest = pseudonyms.digest(b"rule:" + text.encode(errors="surrogatepass"))
    return f"[hash:{digest[:8].hex()}]"


def bucket(pseudonyms: Pseudonyms, value: Any, edges: Sequence[float], names: list[str]) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return DROPPED
    return names[bisect_right(edges, value)]


def moment(pseudonyms: Pseudonyms, value: Any, to: str) -> Any:
    """A date stays a date, milliseconds stay milliseconds; a time becomes one of UTC."""
    try:
        if isinstance(value, str):
            return _written_moment(value, to)
        if not isinstance(value, bool) and _MILLISECONDS[0] <= value < _MILLISECONDS[1]:
            moment = _start(EPOCH + timedelta(milliseconds=int(value)), to)
            return (moment - EPOCH) // timedelta(milliseconds=1)
    except (TypeError, ValueError, OverflowError, msgspec.ValidationError):
        pass
    return DROPPED


def _written_moment(text: str, to: str) -> str:
    if len(text) == len("2026-11-20"):
        day = msgspec.convert(text, date)
        return (day.replace(day=1) if to == "month" else day).isoformat()
    moment = msgspec.convert(text, datetime)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return _start(moment, to).isoformat().replace("+00:00", "Z")


def _start(moment: datetime, to: str) -> datetime:
    """The start of the hour, day or month that `moment` is in."""
    start = moment.replace(minute=0, second=0, microsecond=0)
    if to != "hour":
        start = start.replace(hour=0)
    return start.replace(day=1) if to == "month" else start


def leading(pseudonyms: Pseudonyms, value: Any, segments: int, separator: str) -> Any:
    text = _plain(value)
    if text is None:
        return DROPPED
    start = 0
    while text.startswith(separator, start):
        start += len(separator)
    return text[:start] + separator.join(text[start:].split(separator, segments)[:segments])


def group(pseudonyms: Pseudonyms, value: Any, groups: dict[str, str], other: Any) -> Any:
    text = _plain(value)
    return DROPPED if text is None else groups.get(text, other)


def _plain(value: Any) -> str | None:
    """A text, or a number as JSON writes it; None of anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _encode(value).decode()
