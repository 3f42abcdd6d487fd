"""Erasing one person from what is stored and what waits, and one project's days whose retention is
over: the only code that deletes events and points.

Each chunk is a short transaction of its own: whoever is killed leaves the rest to be found again.
What a person's sessions lead to goes first; the person's own records, which say whose the sessions
were, go last.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from typing import Any, TypeVar

import psycopg
from django.db import ProgrammingError, connection, transaction
from psycopg import sql

from ingest import marks, partitions
from ingest.payloads import UNREADABLE, pack, unpack
from ingest.records import StoredPoint, StoredRecord
from telemetry_site.monitoring import instruments

# Rows a transaction: its locks are held for some milliseconds.
CHUNK = 2_000
# Sessions looked up at once.
SESSIONS = 500
# Payloads held in memory at once.
_PAYLOADS = 20

_Item = TypeVar("_Item")
Stored = StoredRecord | StoredPoint
# Key in the ledger: day and id.
Key = tuple[date, int]


@dataclass(frozen=True, slots=True)
class Person:
    """Whom it is about, as far as anybody here knows."""

    project_id: int
    subject: bytes


# Told within the transaction that erases them: the table, and how many rows.
Note = Callable[[str, int], None]


class Unreadable(Exception):
    """Payloads in which nobody can look for a person; `batches` is how many."""

    def __init__(self, batches: int) -> None:
        super().__init__(batches)
        self.batches = batches


def erase_records(person: Person, note: Note) -> Iterator[None]:
    """Erase a person's events, waiting and dead ones among them; yields after each chunk.

    And the records without a person of sessions that nobody else used.
    """
    found = _look_into_payloads(person)
    alone: set[bytes] = set()
    for sessions in _chunks(_sessions(person, found), SESSIONS):
        alone |= set(sessions) - found.others - _shared(person, sessions)
    # What waits first, so that nothing gets into the table behind what is erased there; and the
    # person's own last, which say that the sessions were theirs.
    yield from _erase_from_payloads(person, note, _Erased(sessions=alone))
    for sessions in _chunks(alone, SESSIONS):
        yield from _erase(person, note, partitions.EVENTS, _OF_SESSIONS, sessions)
    yield from _erase_from_payloads(person, note, _Erased(subjects={person.subject}))
    yield from _erase(person, note, partitions.EVENTS, _OF_A_PERSON, person.subject)


def erase_points(person: Person, note: Note) -> Iterator[None]:
    """Erase a person's stored measurements; those that wait are erased with the events that do."""
    yield from _erase(person, note, partitions.POINTS, _OF_A_PERSON, person.subject)


def erase_marks(person: Person, _: Note) -> Iterator[None]:
    """Erase what says that a person's hours have to be counted anew: erasing marks them itself.

    Of no interest for a receipt: whether it was still there is chance.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM aggregation_dirtyperson WHERE project_id = %s AND subject = %s",
            [person.project_id, person.subject],
        )
    yield


def count_marks(person: Person, _: datetime) -> int:
    """How many such marks there are of a person."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM aggregation_dirtyperson WHERE project_id = %s AND subject = %s",
            [person.project_id, person.subject],
        )
        (count,) = cursor.fetchone()
        return int(count)


def erase_from_the_dead(erased: Callable[[int, Set[bytes]], Set[bytes]]) -> None:
    """Take persons who are erased out of batches at which workers died.

    Nobody came to leave them out when these were to be stored, and of what arrives after an erasure
    none looks for them. `erased` says of persons of a project which of them are.
    """
    with connection.cursor() as cursor:
        # Index: ingest_batch_dead.
        cursor.execute(
            "SELECT day, id, project_id FROM ingest_batch WHERE state = 'dead' AND attempts > 0"
        )
        projects = {(day, ledger_id): project for day, ledger_id, project in cursor.fetchall()}
    for key, records in _payloads(projects):
        people = {record.subject for record in records or () if record.subject is not None}
        if gone := erased(projects[key], people):
            with transaction.atomic():
                _repack(key, _Erased(subjects=gone))


def count_events(person: Person, _: datetime) -> int:
    """How many events of a person are stored."""
    return _count(person, partitions.EVENTS)


def count_points(person: Person, _: datetime) -> int:
    """How many measurements of a person are stored."""
    return _count(person, partitions.POINTS)


def count_in_payloads(person: Person, since: datetime) -> int:
    """In how many payloads that arrived before `since` the person still is. Raises Unreadable.

    What came later is left out of storing by the person's restriction.
    """
    found = unreadable = 0
    for _, records in _payloads(_keys(person, since)):
        if records is None:
            unreadable += 1
        else:
            found += any(record.subject == person.subject for record in records)
    if unreadable:
        raise Unreadable(unreadable)
    return found


# --- what is stored ---

# What the rollups call them.
_KINDS = {partitions.EVENTS.table: marks.EVENTS, partitions.POINTS.table: marks.POINTS}
_OF_A_PERSON = sql.SQL("subject = %s")
# Index: ingest_event_session.
_OF_SESSIONS = sql.SQL("session = ANY(%s) AND subject IS NULL")
# In transactions where no plan may read a whole table, whatever the statistics say.
_BY_INDEX = sql.SQL("SET LOCAL enable_seqscan = off")


def _erase(
    person: Person, note: Note, table: partitions.Partitioned, which: sql.SQL, value: Any
) -> Iterator[None]:
    """Delete rows of every day in chunks, each by the day's index, and mark their hours."""
    if not value:
        return
    statement = sql.SQL("""
        WITH erased AS (
            DELETE FROM {day} WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM {day} WHERE project_id = %s AND {which} LIMIT {chunk}
            )) RETURNING project_id, date_trunc('hour', occurred_at, 'UTC') AS hour
        ), marked AS (
            INSERT INTO aggregation_dirtymark (project_id, kind, level, bucket, erasing, marked_at)
            SELECT DISTINCT project_id, {kind}, 0, hour, true, now() FROM erased
        ) SELECT count(*) FROM erased
    """)
    words = {"which": which, "chunk": sql.Literal(CHUNK), "kind": sql.Literal(_KINDS[table.table])}
    for day in partitions.days(table):
        of_the_day = statement.format(day=day, **words)
        rows = CHUNK
        while rows == CHUNK:
            rows = 0
            with _unless_dropped(), transaction.atomic():
                rows = _run(of_the_day, [person.project_id, value])
                if rows:
                    note(table.table, rows)
            if rows:
                yield


def _count(person: Person, table: partitions.Partitioned) -> int:
    statement = sql.SQL("SELECT count(*) FROM {} WHERE project_id = %s AND subject = %s")
    return sum(
        count
        for day in partitions.days(table)
        for (count,) in _read(statement.format(day), [person.project_id, person.subject])
    )


def _shared(person: Person, sessions: list[bytes]) -> set[bytes]:
    """Those of these sessions that somebody else used too. Index: ingest_event_session."""
    statement = sql.SQL("""
        SELECT asked FROM unnest(%s::bytea[]) AS asked WHERE EXISTS (
            SELECT FROM {} WHERE project_id = %s AND session = asked AND subject <> %s
        )
    """)
    return {
        bytes(session)
        for day in partitions.days(partitions.EVENTS)
        for (session,) in _read(
            statement.format(day), [sessions, person.project_id, person.subject]
        )
    }


def _sessions(person: Person, found: "_Found") -> Iterator[bytes]:
    """The sessions of a person's events and payloads. Index: ingest_event_subject."""
    seen = set(found.own)
    yield from found.own
    statement = sql.SQL("""
        SELECT DISTINCT session FROM {}
        WHERE project_id = %s AND subject = %s AND session IS NOT NULL
    """)
    for day in partitions.days(partitions.EVENTS):
        rows = _read(statement.format(day), [person.project_id, person.subject])
        new = {bytes(session) for (session,) in rows} - seen
        seen |= new
        yield from new


def _read(statement: sql.Composed, parameters: list[Any]) -> list[tuple[Any, ...]]:
    """The rows of a day; none where the day is dropped meanwhile."""
    rows: list[tuple[Any, ...]] = []
    with _unless_dropped(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_BY_INDEX)
        cursor.execute(statement, parameters)
        rows += cursor.fetchall()
    return rows


def _run(statement: sql.Composed, parameters: list[Any]) -> int:
    """Run it in the caller's transaction; how many rows it says that it changed."""
    with connection.cursor() as cursor:
        cursor.execute(_BY_INDEX)
        cursor.execute(statement, parameters)
        (rows,) = cursor.fetchone()
        return int(rows)


@contextmanager
def _unless_dropped() -> Iterator[None]:
    """Around one day's transaction: a day whose retention ended meanwhile holds nobody any more."""
    try:
        yield
    except ProgrammingError as error:
        if not isinstance(error.__cause__, psycopg.errors.UndefinedTable):
            raise


# --- what is past its project's retention ---


def expire(project_id: int, table: partitions.Partitioned, day: date) -> Iterator[int]:
    """Delete what a project has in a day, in chunks; the rows of each. Nothing is marked: what was
    counted of the day stays."""
    statement = sql.SQL("""
        WITH expired AS (
            DELETE FROM {day} WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM {day} WHERE project_id = %s LIMIT {chunk}
            )) RETURNING 1
        ) SELECT count(*) FROM expired
    """)
    name = sql.Identifier(partitions.SCHEMA, table.partition(day))
    rows = CHUNK
    while rows == CHUNK:
        rows = 0
        with _unless_dropped(), transaction.atomic():
            rows = _run(statement.format(day=name, chunk=sql.Literal(CHUNK)), [project_id])
        if rows:
            yield rows


def count_of_day(project_id: int, table: partitions.Partitioned, day: date) -> int:
    """How many rows a project has in a day."""
    name = sql.Identifier(partitions.SCHEMA, table.partition(day))
    statement = sql.SQL("SELECT count(*) FROM {} WHERE project_id = %s").format(name)
    return sum(count for (count,) in _read(statement, [project_id]))


# --- what waits, and what is dead ---


@dataclass(slots=True)
class _Found:
    """Sessions in a project's payloads: the person's, and other persons'."""

    own: set[bytes] = field(default_factory=set)
    others: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Erased:
    """Which records of a payload go: these persons', and those without one of these sessions."""

    subjects: Set[bytes] = frozenset()
    sessions: Set[bytes] = frozenset()

    def has(self, record: Stored) -> bool:
        if record.subject is not None:
            return record.subject in self.subjects
        return isinstance(record, StoredRecord) and record.session in self.sessions


def _look_into_payloads(person: Person) -> _Found:
    found = _Found()
    for _, records in _payloads(_keys(person)):
        for record in records or ():
            if isinstance(record, StoredRecord) and record.session and record.subject:
                whose = found.own if record.subject == person.subject else found.others
                whose.add(record.session)
    return found


def _erase_from_payloads(person: Person, note: Note, erased: _Erased) -> Iterator[None]:
    if not (erased.subjects or erased.sessions):
        return
    for key, records in _payloads(_keys(person)):
        if any(map(erased.has, records or ())):
            with transaction.atomic():
                if items := _repack(key, erased):
                    note("ingest_batch", items)
            yield


def _repack(key: Key, erased: _Erased) -> int:
    """Leave records out of a payload, unless it was settled meanwhile; how many items are gone.

    An item is what its client sent as one: of a snapshot's points all go, or none.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT payload, state, format FROM ingest_batch
            WHERE day = %s AND id = %s AND state IN ('received', 'dead')
            FOR NO KEY UPDATE
            """,
            key,
        )
        row = cursor.fetchone()
        if row is None:
            return 0
        payload, state, batch_format = row
        records = unpack(bytes(payload))
        kept = [record for record in records if not erased.has(record)]
        left = {record.position for record in kept}
        items = len({record.position for record in records} - left)
        dead = items if state == "dead" else 0
        if kept:
            cursor.execute(
                """
                UPDATE ingest_batch SET payload = %s, suppressed = suppressed + %s, dead = dead - %s
                WHERE day = %s AND id = %s
                """,
                [pack(kept), items, dead, *key],
            )
        else:
            cursor.execute(
                """
                UPDATE ingest_batch SET state = 'stored', payload = NULL, error = '',
                    stored_at = coalesce(stored_at, now()),
                    suppressed = suppressed + %s, dead = dead - %s
                WHERE day = %s AND id = %s
                """,
                [items, dead, *key],
            )
    counter = instruments.events(batch_format, "suppressed")
    transaction.on_commit(lambda: counter.inc(items))
    return items


def _keys(person: Person, until: datetime | None = None) -> list[Key]:
    """The project's batches that have a payload. Indexes: ingest_batch_waiting and _dead."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT day, id FROM ingest_batch WHERE state = 'received' AND project_id = %(project)s
                AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)
            UNION ALL
            SELECT day, id FROM ingest_batch WHERE state = 'dead' AND project_id = %(project)s
                AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)
            """,
            {"project": person.project_id, "until": until},
        )
        return [*cursor.fetchall()]


def _payloads(keys: Iterable[Key]) -> Iterator[tuple[Key, list[Stored] | None]]:
    """The batches that still have one, and their records; None where they can't be read."""
    for some in _chunks(keys, _PAYLOADS):
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT day, id, payload FROM ingest_batch
                WHERE day = ANY(%s) AND id = ANY(%s) AND state IN ('received', 'dead')
                """,
                [[*{day for day, _ in some}], [ledger_id for _, ledger_id in some]],
            )
            rows = cursor.fetchall()
        for day, ledger_id, payload in rows:
            try:
                yield (day, ledger_id), unpack(bytes(payload or b""))
            except UNREADABLE:
                yield (day, ledger_id), None


def _chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
