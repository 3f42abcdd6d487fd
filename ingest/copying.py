"""Events into their table: one binary COPY, and the few that PostgreSQL refuses found by halving.

Called by `storage` alone, inside its transaction.
"""

import struct
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import psycopg
from django.db import transaction
from psycopg.adapt import Dumper
from psycopg.pq import Format

from ingest import partitions, prepared
from ingest.records import StoredRecord

# What is wrong with the data and not with the moment: SQLSTATE classes 22 and 23.
DATA_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    # What can't even be written in PostgreSQL's format: a number too large for its column.
    ValueError,
    OverflowError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch claimed from the ledger."""

    id: int
    day: date
    project_id: int
    batch_id: UUID
    body_bytes: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Row:
    """One event on its way into the table, and the batch it came in."""

    batch: Waiting
    record: StoredRecord


@dataclass(frozen=True, slots=True)
class Failure:
    """An event that can't be stored, and why."""

    row: Row
    error: str


def copy_rows(rows: list[Row]) -> list[Failure]:
    """Copy events into the table; those that can't be, with PostgreSQL's reason.

    Raises what isn't the data's fault: a lost connection, a lock, a full disk.
    """
    _make_days(rows)
    return _copy(rows)


_days_made: set[date] = set()


def _make_days(rows: list[Row]) -> None:
    """Make the partitions that these rows need and maintenance hasn't made."""
    days = {row.record.occurred // _DAY for row in rows}
    for day in {date.fromordinal(_EPOCH_DAY + day) for day in days} - _days_made:
        partitions.ensure(partitions.EVENTS, day)
        _days_made.add(day)


def _copy(rows: list[Row]) -> list[Failure]:
    """Copy rows into the table; those that can't be, found by halving what fails."""
    if not rows:
        return []
    try:
        with transaction.atomic():
            _copy_all(rows)
    except DATA_ERRORS as error:
        if len(rows) == 1:
            return [Failure(rows[0], _words(error))]
    else:
        return []
    middle = len(rows) // 2
    return _copy(rows[:middle]) + _copy(rows[middle:])


def _copy_all(rows: list[Row]) -> None:
    cursor = prepared.cursor()
    cursor.adapters.register_dumper(None, _JsonText)
    cursor.adapters.register_dumper(None, _Microseconds)
    with cursor.copy(_COPY) as copy:
        copy.set_types(list(_COLUMNS.values()))
        for row in rows:
            batch, record = row.batch, row.record
            copy.write_row(
                (
                    batch.project_id,
                    record.occurred,
                    batch.batch_id,
                    record.position,
                    record.subject,
                    record.session,
                    record.name,
                    record.category,
                    record.level,
                    record.scope,
                    record.client_version,
                    record.message,
                    record.properties,
                )
            )


_COLUMNS = {
    "project_id": "int4",
    "occurred_at": "timestamptz",
    "batch_id": "uuid",
    "position": "int2",
    "subject": "bytea",
    "session": "bytea",
    "name": "text",
    "category": "text",
    "level": "text",
    "scope": "text",
    "client_version": "text",
    "message": "text",
    "properties": "jsonb",
}
_COPY = f"COPY ingest_event ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"

_DAY = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
# PostgreSQL counts from 2000.
_POSTGRES_EPOCH = 946_684_800_000_000


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
        return struct.pack("!q", obj - _POSTGRES_EPOCH)


def _words(error: Exception) -> str:
    """The state and the server's words, without the detail that shows the data."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return f"{error.sqlstate}: {error.diag.message_primary}"
    return type(error).__name__
