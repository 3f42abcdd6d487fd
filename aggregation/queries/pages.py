"""Groups by size, a page at a time: a cursor says behind which group the next page begins."""

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec


class Position(msgspec.Struct, frozen=True, array_like=True):
    """The last group of a page. `question` is that of the question that it answers."""

    question: int
    size: int
    value: str


class InvalidCursor(ValueError):
    """A text is no cursor."""


@dataclass(frozen=True)
class Page:
    """Which groups are answered: so many, behind the last one of the page before."""

    limit: int
    after: Position | None = None


def mark_of(*question: Any) -> int:
    """What all pages of a question have in common, and those of others have not."""
    return zlib.crc32(repr(question).encode())


def read(cursor: str) -> Position:
    """The position that a cursor stands for. Raises InvalidCursor."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=Position)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        raise InvalidCursor from None


def turn(
    page: Page, question: int, values: Sequence[str], sizes: Sequence[int]
) -> tuple[list[int], str | None]:
    """The places of a page's groups, and the cursor of the next page if there is one."""
    order = sorted(range(len(values)), key=lambda place: (-sizes[place], values[place]))
    if after := page.after:
        order = [p for p in order if (-sizes[p], values[p]) > (-after.size, after.value)]
    chosen = order[: page.limit]
    if len(order) <= page.limit:
        return chosen, None
    last = Position(question, sizes[chosen[-1]], values[chosen[-1]])
    return chosen, base64.urlsafe_b64encode(msgspec.json.encode(last)).decode()
