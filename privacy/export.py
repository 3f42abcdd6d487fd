"""Gathering all that is kept about one person, as the JSON text of one file, piece by piece.

Nothing here holds more than some rows, nor reads under a snapshot that lasts: of each day the
places of the person's rows are listed, and then looked up some thousands at a time. PostgreSQL
renders them as JSON, which is quicker than any way through Python's objects.

What waits in the ledger is read before what is stored, so that nothing slips through on its way
from the one to the other; what was seen waiting is left out of what is stored. Both are read from
one database; what is kept beside that is little, and the primary's.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import msgspec
import psycopg
from django.db import connections
from django.utils import timezone
from psycopg import sql

from ingest import partitions, prepared
from ingest.forwarding import destinations
from ingest.models import Batch
from ingest.partitions import Partitioned
from ingest.payloads import UNREADABLE, unpack
from ingest.records import StoredPoint, StoredRecord
from privacy import restrictions
from privacy.models import ConsentChange, DeletionRequest, ExportRequest
from telemetry_site.replica import reader

logger = logging.getLogger(__name__)

# Rows of a lookup: its statement is short, and so is its snapshot.
ROWS_AT_ONCE = 5000
# Waiting batches of a read: their payloads are in memory together.
BATCHES_AT_ONCE = 10
_DAY = timedelta(days=1)
_BETWEEN = b",\n"


class Incomplete(Exception):
    """Rows went away between being listed and being read: erased, dropped, or moved."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where records of one kind are stored. `key` tells those of a batch apart; `columns` are what
    the file has of each, by the names it has there."""

    partitioned: Partitioned
    record: type[StoredRecord | StoredPoint]
    key: LiteralString
    columns: LiteralString

    def ask(self, query: sql.SQL) -> sql.Composed:
        """The query, of this source."""
        return query.format(
            table=sql.Identifier(self.partitioned.table),
            key=sql.SQL(self.key),
            columns=sql.SQL(self.columns),
        )


EVENTS = Source(
    partitions.EVENTS,
    StoredRecord,
    "batch_id, position",
    """
    name AS event, occurred_at AS timestamp, 'stored' AS state, batch_id, position,
    encode(session, 'hex') AS session, category, level, scope, client_version, message, properties
    """,
)
POINTS = Source(
    partitions.POINTS,
    StoredPoint,
    "batch_id, position, part",
    """
    name, occurred_at AS timestamp, 'stored' AS state, batch_id, position, part, kind, node, tags,
    cumulative, value, samples, count, sum, min, max, weights, started_at
    """,
)


@dataclass(slots=True)
class _Seen:
    """The records that were found waiting, by what tells them apart."""

    batches: list[UUID] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)


class Gathering:
    """All that is kept about one person; `events` and `points` count what `pieces` has given."""

    def __init__(self, project_id: int, subject: bytes) -> None:
        self.project_id = project_id
        self.subject = subject
        self.events = 0
        self.points = 0
        self._using = reader()

    def pieces(self) -> Iterator[bytes]:
        """The file's text, in order."""
        head = {"subject": self.subject.hex(), "export_timestamp": timezone.now()}
        yield msgspec.json.encode(head)[:-1]
        yield b',"events":['
        for rows, piece in _separated(self._records(EVENTS)):
            self.events += rows
            yield piece
        yield b'],"metrics":['
        for rows, piece in _separated(self._records(POINTS)):
            self.points += rows
            yield piece
        tail = {
            "requests": self._requests(),
            "consent": self._consent(),
            "destinations": destinations.recipients(self.project_id, self._using),
        }
        yield b"]," + msgspec.json.encode(tail)[1:]

    def _records(self, source: Source) -> Iterator[tuple[int, bytes]]:
        """The person's records of one kind, as so many JSON texts with commas between them."""
        seen = _Seen()
        for piece in self._waiting(source, seen):
            yield 1, piece
        for day in self._days(source):
            for rows, places in self._places(source, day, seen):
                yield from self._rendered(source, day, rows, places)

    # --- what waits in the ledger, or is dead there ---

    def _waiting(self, source: Source, seen: _Seen) -> Iterator[bytes]:
        for state, batch_id, payload in self._payloads():
            try:
                records = unpack(payload)
            except UNREADABLE:
                logger.warning("an export goes without a payload that can't be read")
                continue
            for record in records:
                if type(record) is not source.record or record.subject != self.subject:
                    continue
                part = record.part if isinstance(record, StoredPoint) else 0
                seen.batches.append(batch_id)
                seen.positions.append(record.position)
                seen.parts.append(part)
                yield msgspec.json.encode(_shown(record, state, batch_id))

    def _payloads(self) -> Iterator[tuple[str, UUID, bytes]]:
        """State, batch id and payload of what waits or is dead, in the ledger's order.

        Both states in one statement: a batch that goes from one to the other is never missed.
        """
        place: tuple[date, int] = (date.min, 0)
        while True:
            with connections[self._using].cursor() as cursor:
                cursor.execute(_PAYLOADS, {"project": self.project_id, "day": place[0],
                                           "id": place[1], "most": BATCHES_AT_ONCE})  # fmt: skip
                rows = cursor.fetchall()
            for _, _, state, batch_id, payload in rows:
                yield ("dead" if state == Batch.State.DEAD else "waiting"), batch_id, bytes(payload)
            if len(rows) < BATCHES_AT_ONCE:
                return
            place = rows[-1][:2]

    # --- what is stored ---

    def _days(self, source: Source) -> list[date]:
        """The days of which something of the person is stored."""
        attached = sorted(partitions.attached_days()[source.partitioned.table])
        given = {
            "days": [_start(day) for day in attached],
            "project": self.project_id,
            "subject": self.subject,
        }
        found = prepared.cursor(self._using).execute(source.ask(_DAYS), given)
        return [day.astimezone(UTC).date() for (day,) in found]

    def _places(self, source: Source, day: date, seen: _Seen) -> Iterator[tuple[int, str]]:
        """Where the person's rows of a day are, in the order of their times: how many, and places.

        The list is the server's, and outlives the statement that made it.
        """
        given = {
            **self._of_day(day),
            "most": ROWS_AT_ONCE,
            "batches": seen.batches,
            "positions": seen.positions,
            "parts": seen.parts,
        }
        connection = connections[self._using].connection
        with psycopg.ServerCursor(connection, "places", withhold=True) as cursor:
            cursor.execute(source.ask(_PLACES), given)
            while row := cursor.fetchone():
                yield row

    def _rendered(
        self, source: Source, day: date, rows: int, places: str
    ) -> Iterator[tuple[int, bytes]]:
        """The rows in these places, as JSON."""
        found = 0
        given = {**self._of_day(day), "places": places}
        with prepared.cursor(self._using).copy(source.ask(_ROWS), given) as copy:
            for line in copy:
                found += 1
                yield 1, bytes(line).rstrip(b"\n")
        if found < rows:
            raise Incomplete

    def _of_day(self, day: date) -> dict[str, Any]:
        return {
            "project": self.project_id,
            "subject": self.subject,
            "start": _start(day),
            "end": _start(day) + _DAY,
        }

    # --- what is kept beside that ---

    def _requests(self) -> list[dict[str, Any]]:
        """What the person asked for, as far as it is still known to be theirs."""
        theirs = {"project_id": self.project_id, "subject": self.subject}
        asked = [
            _asked("export", request.pk, request.state, request.requested_at, request.finished_at)
            for request in ExportRequest.objects.filter(**theirs)
        ] + [
            _asked("deletion", request.pk, request.state, request.requested_at, request.finished_at)
            for request in DeletionRequest.objects.filter(**theirs)
        ]
        return sorted(asked, key=lambda request: request["requested_at"])

    def _consent(self) -> dict[str, Any]:
        held = restrictions.of(self.project_id, self.subject)
        changes = ConsentChange.objects.filter(project_id=self.project_id, subject=self.subject)
        history = changes.order_by("changed_at", "pk").values("category", "granted", "changed_at")
        return {
            "categories": held.categories,
            "suppressed": held.suppressed,
            "history": list(history),
        }


# Index ingest_batch_waiting and ingest_batch_dead, in their order.
_PAYLOADS = """
    (SELECT day, id, state, batch_id, payload FROM ingest_batch
     WHERE state = 'received' AND project_id = %(project)s AND payload IS NOT NULL
         AND day >= %(day)s AND (day, id) > (%(day)s, %(id)s)
     ORDER BY day, id LIMIT %(most)s)
    UNION ALL
    (SELECT day, id, state, batch_id, payload FROM ingest_batch
     WHERE state = 'dead' AND project_id = %(project)s AND payload IS NOT NULL
         AND day >= %(day)s AND (day, id) > (%(day)s, %(id)s)
     ORDER BY day, id LIMIT %(most)s)
    ORDER BY day, id LIMIT %(most)s
"""
# Index ingest_event_subject or ingest_metricpoint_subject, as in what follows.
_DAYS = sql.SQL("""
    SELECT day FROM unnest(%(days)s::timestamptz[]) AS day WHERE EXISTS (
        SELECT FROM {table}
        WHERE project_id = %(project)s AND subject = %(subject)s
            AND occurred_at >= day AND occurred_at < day + interval '1 day'
    ) ORDER BY day
""")
_PLACES = sql.SQL("""
    SELECT count(*), array_agg(place)::text FROM (
        SELECT ctid AS place,
            (row_number() OVER (ORDER BY occurred_at, {key}) - 1) / %(most)s AS chunk
        FROM {table}
        WHERE project_id = %(project)s AND subject = %(subject)s
            AND occurred_at >= %(start)s AND occurred_at < %(end)s
            AND ({key}) NOT IN (
                SELECT {key}
                FROM unnest(%(batches)s::uuid[], %(positions)s::int2[], %(parts)s::int2[])
                    AS seen (batch_id, position, part)
            )
    ) AS found GROUP BY chunk ORDER BY chunk
""")
# With its odd marks CSV is the text as it is: JSON has no control characters in it. OFFSET keeps
# PostgreSQL from going by any index but the places.
_ROWS = sql.SQL("""
    COPY (
        SELECT row_to_json(shown) FROM (
            SELECT {columns} FROM (
                SELECT * FROM {table}
                WHERE ctid = ANY(%(places)s::tid[])
                    AND occurred_at >= %(start)s AND occurred_at < %(end)s
                OFFSET 0
            ) AS placed
            WHERE project_id = %(project)s AND subject = %(subject)s
            ORDER BY occurred_at, {key}
        ) AS shown
    ) TO STDOUT (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')
""")


def _separated(records: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The texts with commas between them."""
    between = b"\n"
    for rows, text in records:
        yield rows, between + text
        between = _BETWEEN


def _shown(record: StoredRecord | StoredPoint, state: str, batch_id: UUID) -> dict[str, Any]:
    """A waiting record as the file has it: as `Source.columns` say of a stored one."""
    common = {"timestamp": record.occurred_at, "state": state, "batch_id": batch_id}
    if isinstance(record, StoredRecord):
        return {
            "event": record.name,
            **common,
            "position": record.position,
            "session": record.session and record.session.hex(),
            "category": record.category,
            "level": record.level,
            "scope": record.scope,
            "client_version": record.client_version,
            "message": record.message,
            "properties": msgspec.Raw(record.properties),
        }
    shown = ("position", "part", "kind", "node", "cumulative", "value", "samples", "count", "sum",
             "min", "max", "weights", "started_at")  # fmt: skip
    return {
        "name": record.name,
        **common,
        **{name: getattr(record, name) for name in shown},
        "tags": msgspec.Raw(record.tags),
    }


def _asked(
    what: str, pk: UUID, state: str, requested_at: datetime, finished_at: datetime | None
) -> dict[str, Any]:
    return {
        "id": pk,
        "type": what,
        "status": state,
        "requested_at": requested_at,
        "finished_at": finished_at,
    }


def _start(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
