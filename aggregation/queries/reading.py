"""Reading many rollups at once: a row a group, its numbers packed into one text a column.

`timestamptz_send`, `int8send` and `float8send` are PostgreSQL's own binary forms, big-endian. A
Python object a number would cost more than all the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, LiteralString

import numpy as np
from django.db import connections
from numpy.typing import NDArray

from aggregation.disclosure import Grid
from aggregation.suppression import ABSENT
from ingest import prepared

Whole = NDArray[np.int64]
# PostgreSQL counts microseconds from there.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def rows(using: str, statement: Any, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of a statement, in binary, from a database."""
    connections[using].ensure_connection()
    return prepared.cursor(using).execute(statement, parameters, binary=True).fetchall()


def stream(
    using: str, statement: LiteralString, parameters: dict[str, Any]
) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement, in binary, without having all of them at once."""
    connections[using].ensure_connection()
    yield from prepared.cursor(using).stream(statement, parameters, binary=True)


def whole(packed: bytes) -> Whole:
    """Packed integers, or moments."""
    return np.frombuffer(packed, ">i8").astype(np.int64)


def fractional(packed: bytes) -> NDArray[np.float64]:
    """Packed numbers."""
    return np.frombuffer(packed, ">f8").astype(np.float64)


def moment(number: int) -> datetime:
    """A moment that was packed."""
    return _EPOCH + timedelta(microseconds=number)


def number(moment: datetime) -> int:
    """A moment as it is packed."""
    return microseconds(moment - _EPOCH)


def microseconds(time: timedelta) -> int:
    """A length of time, as the difference of moments that are packed."""
    return time // _MICROSECOND


@dataclass(frozen=True)
class Cells:
    """What rollups say, of groups and some of their buckets: all cells of a group after those of
    the one before."""

    groups: Sequence[str]
    lengths: Sequence[int]
    buckets: Whole
    numbers: dict[str, Whole]

    @classmethod
    def of(cls, names: Sequence[str], packed: Sequence[Sequence[Any]]) -> "Cells":
        """Cells of groups; of each its name, its buckets and these numbers are given, packed."""
        columns = zip(*sorted(packed, key=_name), strict=True) if packed else ((), ())
        groups, buckets, *numbers = columns
        numbers = numbers or [()] * len(names)
        return cls(
            groups,
            [len(part) // 8 for part in buckets],
            whole(b"".join(buckets)),
            {name: whole(b"".join(of)) for name, of in zip(names, numbers, strict=True)},
        )

    @cached_property
    def rows(self) -> Whole:
        """The place of each cell's group."""
        return np.repeat(np.arange(len(self.groups)), self.lengths)

    @property
    def grid(self) -> Grid:
        """The people, as disclosure control takes them."""
        buckets, columns = np.unique(self.buckets, return_inverse=True)
        people = np.full((len(self.groups), len(buckets)), ABSENT, np.int64)
        people[self.rows, columns] = self.numbers["people"]
        return Grid(tuple(self.groups), tuple(map(moment, buckets.tolist())), people)


def _name(group: Sequence[Any]) -> str:
    name: str = group[0]
    return name


@dataclass(frozen=True)
class Axis:
    """The buckets of an answer, and of which rollups each is: itself, or some hours."""

    parts: Whole
    firsts: Whole

    @classmethod
    def of(cls, edges: Sequence[datetime], in_hours: bool) -> "Axis":
        """The axis between edges; in hours where the buckets are made of these."""
        numbers = [number(edge) for edge in edges]
        if not in_hours:
            return cls(np.array(numbers[:-1]), np.arange(len(numbers) - 1))
        hour = microseconds(timedelta(hours=1))
        parts = np.arange(numbers[0], numbers[-1], hour)
        return cls(parts, (np.array(numbers[:-1]) - numbers[0]) // hour)

    def places(self, moments: Whole) -> tuple[NDArray[np.bool_], Whole]:
        """Which of some moments are parts, and the places of those that are."""
        places = np.searchsorted(self.parts, moments)
        places[places == len(self.parts)] = 0
        return self.parts[places] == moments, places

    def sums(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Numbers of groups and parts, added up to those of groups and buckets."""
        if len(self.firsts) == len(self.parts):
            return numbers
        sums: NDArray[Any] = np.add.reduceat(numbers, self.firsts, axis=1)
        return sums


@dataclass(frozen=True)
class Layout:
    """An array with a line a group and a column a part."""

    groups: Sequence[str]
    axis: Axis

    def array(self, empty: int) -> Whole:
        """One that is filled with a number."""
        return np.full((len(self.groups), len(self.axis.parts)), empty, np.int64)

    def places(self, names: Sequence[str], rows: Whole, moments: Whole) -> tuple[Whole, Whole]:
        """Which of some cells have a place in it, and these, counted line by line. Each cell is of
        the group `names[row]`."""
        if not len(moments):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        line_of = {group: line for line, group in enumerate(self.groups)}
        lines = np.array([line_of.get(name, -1) for name in names])[rows]
        there, columns = self.axis.places(moments)
        cells = np.flatnonzero(there & (lines >= 0))
        return cells, lines[cells] * len(self.axis.parts) + columns[cells]
