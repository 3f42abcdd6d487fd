"""How answers leave: as JSON, or as CSV for spreadsheets. Pure."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aggregation.queries.spans import Span

# A spreadsheet takes a text that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
Number = int | float | None


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the numbers of an answer go: all events before `complete_until` are in them, and who
    asked for erasure before `clean_until` isn't."""

    complete_until: datetime
    clean_until: datetime


@dataclass(frozen=True, slots=True)
class Standing(Reach):
    """What the numbers of an answer are worth: groups of fewer people than `threshold` are
    withheld."""

    threshold: int

    def terms(self, withheld: Mapping[str, int]) -> dict[str, Any]:
        """How persons are protected, and how much of the answer that took."""
        return {"mode": "threshold", "threshold": self.threshold, "withheld": withheld}


@dataclass(frozen=True, slots=True)
class PrivateStanding(Reach):
    """The same in private mode. How many names are withheld isn't known to whom it isn't told."""

    privacy: Mapping[str, Any]

    def terms(self, withheld: Mapping[str, int]) -> dict[str, Any]:
        """What the numbers may tell of a person."""
        return {"mode": "private", "privacy": self.privacy}


@dataclass(frozen=True, slots=True)
class Group:
    """A group's numbers by their name, one a bucket; None where there is none to tell."""

    value: str | None
    numbers: Mapping[str, Sequence[Number]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Groups over time. `withheld_groups` aren't in it; `withheld_cells` are counted of all groups,
    also those of other pages."""

    span: Span
    standing: Standing | PrivateStanding
    group_by: str
    groups: Sequence[Group]
    withheld_groups: int
    withheld_cells: int
    numbers: Sequence[str]
    next: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head(self) -> dict[str, Any]:
        """What stands before the numbers."""
        span, standing = self.span, self.standing
        return {
            **self.about,
            "from": span.local(span.start),
            "to": span.local(span.end),
            "tz": span.zone.key,
            "complete_until": standing.complete_until,
            "clean_until": standing.clean_until,
            **standing.terms({"groups": self.withheld_groups, "cells": self.withheld_cells}),
        }

    @property
    def json(self) -> dict[str, Any]:
        """The body of an answer over time."""
        return {
            **self.head,
            "interval": self.span.level.label.lower(),
            "group_by": self.group_by or None,
            "buckets": [self.span.local(start) for start in self.span.starts],
            "groups": [{"value": group.value, **group.numbers} for group in self.groups],
            "next": self.next,
        }

    @property
    def table(self) -> Iterator[list[Any]]:
        """The rows of an answer over time: the columns' names, then a row a group and bucket."""
        yield ["time", *([self.group_by] if self.group_by else []), *self.numbers]
        times = [self.span.local(start).isoformat() for start in self.span.starts]
        for group in self.groups:
            lead = [group.value] if self.group_by else []
            for time, *numbers in zip(times, *group.numbers.values(), strict=True):
                yield [time, *lead, *numbers]


# A day's numbers, under the names that source 000 has for them.
_OF_A_DAY = {"total_events": "count", "unique_users": "people", "total_bytes": "bytes"}


@dataclass(frozen=True, slots=True)
class Days:
    """An answer by day, the latest first."""

    answer: Answer

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        names, *rows = self.table
        return {**self.answer.head, "days": [dict(zip(names, row, strict=True)) for row in rows]}

    @property
    def table(self) -> list[list[Any]]:
        """The columns' names, then a row a day."""
        span, numbers = self.answer.span, self.answer.groups[0].numbers
        dates = [span.local(start).date() for start in span.starts]
        rows = zip(dates, *(numbers[name] for name in _OF_A_DAY.values()), strict=True)
        return [["date", *_OF_A_DAY], *map(list, [*rows][::-1])]


@dataclass(frozen=True, slots=True)
class Nodes:
    """The latest snapshot of each node: its id, its time and its fields."""

    standing: Reach
    snapshots: Sequence[tuple[str, datetime, Mapping[str, float]]]

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        return {
            "complete_until": self.standing.complete_until,
            "clean_until": self.standing.clean_until,
            "nodes": [
                {"node_id": node, "timestamp": moment, "fields": fields}
                for node, moment, fields in self.snapshots
            ],
        }

    @property
    def table(self) -> Iterator[list[Any]]:
        """The columns' names, all fields among them, then a row a node."""
        names = sorted({name for *_, fields in self.snapshots for name in fields})
        yield ["node_id", "timestamp", *names]
        for node, moment, fields in self.snapshots:
            yield [node, moment.isoformat(), *(fields.get(name) for name in names)]


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as RFC 4180 has them. None is an empty field; no text is a formula."""
    text = io.StringIO()
    csv.writer(text).writerows([_harmless(value) for value in row] for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
