"""Leaving out what persons don't let be stored: whose erasure was asked for, or who refused it.

An erasure commits its restriction, and then waits for all storing that began before it
(`await_storing`): what comes after sees the restriction.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

from ingest.copying import Row, Waiting
from ingest.forwarding.rendering.rows import EventRow, PointRow
from ingest.models import Event, MetricPoint
from ingest.prepared import execute
from ingest.records import StoredPoint, StoredRecord
from privacy.consent import Restriction

# Advisory locks of this kind, one a project: storing shares it, an erasure has it for a moment.
_STORING = 0x73746F72  # "stor"

_Item = TypeVar(
    "_Item", bound=Event | MetricPoint | StoredRecord | StoredPoint | EventRow | PointRow
)


def leave_out(rows: list[Row]) -> tuple[list[Row], dict[Waiting, int]]:
    """The rows that may be stored, and of each batch how many items may not.

    Within the transaction that stores them: restrictions hold until it ends.
    """
    people = {
        (row.batch.project_id, row.record.subject) for row in rows if row.record.subject is not None
    }
    if not people:
        return rows, {}
    restrictions = _restrictions(people)
    if not restrictions:
        return rows, {}
    alone = _sessions_alone(rows, restrictions)
    kept: list[Row] = []
    left_out: dict[Waiting, set[int]] = defaultdict(set)
    for row in rows:
        if _forbidden(row, restrictions) or (row.record.subject is None and _session(row) in alone):
            left_out[row.batch].add(row.record.position)
        else:
            kept.append(row)
    return kept, {batch: len(positions) for batch, positions in left_out.items()}


def shown(project_id: int, items: Sequence[_Item]) -> list[_Item]:
    """What may be shown of these items: nothing of who asked for erasure, what a session of theirs
    sent without a name among it, since that is erased with them."""
    subjects = {bytes(item.subject) for item in items if item.subject is not None}
    found = _found({(project_id, subject) for subject in subjects})
    gone = {subject for (_, subject), held in found.items() if held.suppressed}
    sessions = {one for item in items if item.subject is None and (one := _session_of(item))}
    theirs = _sessions_of_suppressed(project_id, sessions) if sessions else set()
    theirs |= {
        one
        for item in items
        if item.subject is not None and bytes(item.subject) in gone and (one := _session_of(item))
    }
    return [
        item
        for item in items
        if (bytes(item.subject) not in gone if item.subject else _session_of(item) not in theirs)
    ]


def _session_of(item: _Item) -> bytes | None:
    session = item.session if isinstance(item, Event | StoredRecord | EventRow) else None
    return bytes(session) if session is not None else None


def _sessions_of_suppressed(project_id: int, sessions: set[bytes]) -> set[bytes]:
    """Those of these sessions that somebody used who asked for erasure.

    Index: ingest_event_session.
    """
    found = execute(
        """
        SELECT DISTINCT event.session FROM ingest_event AS event
        JOIN privacy_personrestriction AS held USING (project_id, subject)
        WHERE project_id = %s AND event.session = ANY(%s) AND held.suppressed
        """,
        [project_id, [*sessions]],
    )
    return {bytes(session) for (session,) in found}


def await_storing(project_id: int) -> None:
    """Wait until nothing is being stored that may have begun without a restriction just committed.

    In a transaction of its own.
    """
    execute("SELECT pg_advisory_xact_lock(%s, %s)", [_STORING, project_id])


def _restrictions(people: set[tuple[int, bytes]]) -> Mapping[tuple[int, bytes], Restriction]:
    """What isn't stored of these persons, until the transaction ends."""
    # In order, so that two who store for several projects never wait for each other.
    projects = sorted({project for project, _ in people})
    execute(
        "SELECT pg_advisory_xact_lock_shared(%s, project) FROM unnest(%s::int4[]) AS project",
        [_STORING, projects],
    )
    # A statement of its own: it sees what was committed while the lock was waited for.
    return _found(people)


def _found(people: set[tuple[int, bytes]]) -> Mapping[tuple[int, bytes], Restriction]:
    """Of these persons (project, subject), what isn't stored of them; most are in it not at all.

    Index: restriction_of_a_person.
    """
    found = execute(
        """
        SELECT project_id, subject, suppressed, refused, opted_in_at FROM privacy_personrestriction
        JOIN unnest(%s::int4[], %s::bytea[]) AS asked (project_id, subject)
            USING (project_id, subject)
        """,
        [[project for project, _ in people], [subject for _, subject in people]],
    )
    return {
        (project, bytes(subject)): Restriction(suppressed, frozenset(refused), opted_in_at)
        for project, subject, suppressed, refused, opted_in_at in found
    }


def _sessions_alone(
    rows: list[Row], restrictions: Mapping[tuple[int, bytes], Restriction]
) -> set[tuple[int, bytes] | None]:
    """The sessions that are, as far as their batch tells, those of persons who are erased, and of
    nobody else: once they are left out nothing tells any more whose a record without a user is.

    By the batch, so that it doesn't depend on which other batches are stored together with it.
    """
    theirs: set[tuple[int, bytes] | None] = set()
    others: set[tuple[int, bytes] | None] = set()
    for row in rows:
        if row.record.subject is not None and (session := _session(row)):
            held = restrictions.get((row.batch.project_id, row.record.subject))
            (theirs if held and held.suppressed else others).add(session)
    return theirs - others


def _session(row: Row) -> tuple[int, bytes] | None:
    """The batch and the session of an event, if it has one."""
    session = row.record.session if isinstance(row.record, StoredRecord) else None
    return (row.batch.id, session) if session is not None else None


def _forbidden(row: Row, restrictions: Mapping[tuple[int, bytes], Restriction]) -> bool:
    record = row.record
    if record.subject is None:
        return False
    restriction = restrictions.get((row.batch.project_id, record.subject))
    category = record.category if isinstance(record, StoredRecord) else None
    return restriction is not None and (
        restriction.forbids(category) or not restriction.is_meant_for(row.batch.received_at)
    )
