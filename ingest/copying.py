"""Events and points into their tables: a binary COPY each, and the few rows that PostgreSQL refuses
found by halving.

Called by `storage` alone, inside its transaction.
"""

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import LiteralString
from uuid import UUID

import psycopg
from django.db import transaction
from django.utils import timezone
from msgspec.structs import astuple
from psycopg.adapt import Dumper
from psycopg.pq import Format

from ingest import marks, partitions, prepared
from ingest.moments import POSTGRES_EPOCH
from ingest.records import StoredPoint, StoredRecord, microseconds

# What is wrong with the data and not with the moment: SQLSTATE classes 22 and 23.
DATA_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    # What can't even be written in PostgreSQL's format: a number too large for its column.
    ValueError,
    OverflowError,
    struct.error,
)


_QUOTED = re.compile(r'"[^"]*"')


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch claimed from the ledger."""

    id: int
    day: date
    project_id: int
    batch_id: UUID
    body_bytes: int
    attempts: int
    request_id: str
    format: str
    received_at: datetime
    events: int  # that are still to be stored
    replayed: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One event or point on its way into its table, and the batch it came in."""

    batch: Waiting
    record: StoredRecord | StoredPoint


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that can't be stored, and why."""

    row: Row
    error: str


@dataclass(frozen=True)
class Table:
    """Where records of one kind go, and what the rollups call it. `columns` are those of a record's
    fields, in their order."""

    partitioned: partitions.Partitioned
    kind: str
    columns: Mapping[str, LiteralString]

    @property
    def types(self) -> list[LiteralString]:
        return [*_BATCH.values(), *self.columns.values()]

    @property
    def copy(self) -> str:
        columns = ", ".join([*_BATCH, *self.columns])
        return f"COPY {self.partitioned.table} ({columns}) FROM STDIN (FORMAT BINARY)"


def copy_rows(rows: list[Row]) -> list[Failure]:
    """Copy rows into their tables; those that can't be, with PostgreSQL's reason.

    Raises what isn't the data's fault: a lost connection, a lock, a full disk.
    """
    failures: list[Failure] = []
    for kind, table in TABLES.items():
        if its_rows := [row for row in rows if type(row.record) is kind]:
            hours = {(row.batch.project_id, row.record.occurred // _HOUR) for row in its_rows}
            _make_days(table.partitioned, {hour // 24 for _, hour in hours})
            failures += _copy(table, its_rows)
            marks.append(table.kind, hours | _following(its_rows))
    return failures


def _following(rows: list[Row]) -> set[tuple[int, int]]:
    """The hours after those of what is cumulative, where they may have begun: what it grew by in
    one is from what it was in the hour before."""
    open_hour = (microseconds(timezone.now()) + _SOON) // _HOUR
    return {
        (row.batch.project_id, following)
        for row in rows
        if isinstance(row.record, StoredPoint)
        and row.record.started is not None
        and (following := row.record.occurred // _HOUR + 1) <= open_hour
    }


_days_made: set[tuple[str, date]] = set()


def _make_days(table: partitions.Partitioned, numbers: Iterable[int]) -> None:
    """Make the partitions of these days, counted from 1970, that maintenance hasn't made."""
    for number in numbers:
        day = date.fromordinal(_EPOCH_DAY + number)
        if (table.table, day) not in _days_made:
            partitions.ensure(table, day)
            _days_made.add((table.table, day))


def _copy(table: Table, rows: list[Row]) -> list[Failure]:
    """Copy rows into a table; those that can't be, found by halving what fails."""
    if not rows:
        return []
    try:
        with transaction.atomic():
            _copy_all(table, rows)
    except DATA_ERRORS as error:
        if len(rows) == 1:
            return [Failure(rows[0], _words(error))]
    else:
        return []
    middle = len(rows) // 2
    return _copy(table, rows[:middle]) + _copy(table, rows[middle:])


def _copy_all(table: Table, rows: list[Row]) -> None:
    cursor = prepared.cursor()
    cursor.adapters.register_dumper(None, _JsonText)
    cursor.adapters.register_dumper(None, _Microseconds)
    with cursor.copy(table.copy) as copy:
        copy.set_types(table.types)
        for row in rows:
            copy.write_row((row.batch.project_id, row.batch.batch_id, *astuple(row.record)))


_BATCH: Mapping[str, LiteralString] = {"project_id": "int4", "batch_id": "uuid"}
TABLES: Mapping[type[StoredRecord | StoredPoint], Table] = {
    StoredRecord: Table(
        partitions.EVENTS,
        marks.EVENTS,
        {
            "position": "int2",
            "occurred_at": "timestamptz",
            "name": "text",
            "subject": "bytea",
            "session": "bytea",
            "category": "text",
            "level": "text",
            "scope": "text",
            "client_version": "text",
            "message": "text",
            "properties": "jsonb",
        },
    ),
    StoredPoint: Table(
        partitions.POINTS,
        marks.POINTS,
        {
            "position": "int2",
            "part": "int2",
            "occurred_at": "timestamptz",
            "name": "text",
            "kind": "text",
            "subject": "bytea",
            "node": "text",
            "tags": "jsonb",
            "cumulative": "bool",
            "value": "float8",
            "samples": "float8[]",
            "count": "int8",
            "sum": "float8",
            "min": "float8",
            "max": "float8",
            "weights": "int8[]",
            "started_at": "timestamptz",
        },
    ),
}

_HOUR = 3_600_000_000
# Longer than a transaction that stores takes: another one may have counted the next hour by then.
_SOON = _HOUR // 6
_EPOCH_DAY = date(1970, 1, 1).toordinal()


class _JsonText(Dumper):
    """Text that is JSON already, for a jsonb column: nothing to encode again."""

    format = Format.BINARY
    oid = psycopg.adapters.types["jsonb"].oid

    def dump(self, obj: bytes) -> bytes:
        return b"\x01" + obj


class _Microseconds(Dumper):
    """Microseconds since 1970 for a timestamptz column."""

    format = Format.BINARY
    oid = psycopg.adapters.types["timestamptz"].oid

    def dump(self, obj: int) -> bytes:
        return struct.pack("!q", obj - POSTGRES_EPOCH)


def _words(error: Exception) -> str:
    """The state and the server's words, without the detail that shows the data."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        told = error.diag.message_primary or ""
        # Those of class 22 quote the value; those of class 23 a constraint's name.
        told = told if error.sqlstate.startswith("23") else _QUOTED.sub('"…"', told)
        return f"{error.sqlstate}: {told}"
    return type(error).__name__
