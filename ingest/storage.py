"""Storing what waits in the ledger: the only code that writes or deletes events and points.

A group of waiting batches is claimed by locking its rows, copied into its tables and marked stored,
in one transaction: a worker that dies leaves everything as it was. Before a group is worked on, its
ids are committed as an `Attempt` on a connection of their own; one that is left behind tells that
the process died there, and its batches are then run one at a time.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import partial
from typing import LiteralString

from django.db import connection, transaction
from django.utils import timezone

from ingest import restrictions
from ingest.attempts import FORGIVEN, attempts
from ingest.copying import TABLES, Failure, Row, Waiting, copy_rows
from ingest.forwarding import deliveries
from ingest.partitions import Partitioned
from ingest.payloads import UNREADABLE, pack, unpack
from ingest.prepared import execute
from ingest.records import microseconds
from telemetry_site import logs
from telemetry_site.monitoring import instruments

logger = logging.getLogger(__name__)

# Bounds of a group: so many batches share a transaction, and so many decoded bytes share memory.
GROUP_BATCHES = 50
GROUP_BYTES = 8 * 1024**2
# A batch at which so many processes died is dead.
MOST_DEATHS = 3
# After a group that wasn't full: what arrives meanwhile shares the next transaction, which costs
# half as much as one each. Longer, and a group would keep a processor busy for so long that
# accepting feels it.
LINGER_SECONDS = 0.05


class Progress(Enum):
    """How far one group got with what waits."""

    DONE = "nothing waited"
    SOME = "all of what could be claimed"
    MORE = "there is more"


def store_waiting(seconds: float, paused: Callable[[], bool]) -> bool:
    """Store waiting batches until none is left or the time is over; whether some may be left.

    Once `paused()` says so no further group is begun, and nothing is left to be done now.
    """
    deadline = time.monotonic() + seconds
    attempts.open()
    while time.monotonic() < deadline:
        if paused():
            return False
        try:
            # In turns, so that neither waits for the other to be through.
            suspects, progress = store_suspect(), store_group()
        except FORGIVEN:
            raise
        except Exception:
            # Its note stays: the next turn blames the batches it names and tries them alone.
            logger.exception("storing failed in a way nobody foresaw")
            continue
        if progress is Progress.DONE and not suspects:
            return False
        if progress is Progress.SOME and not suspects:
            time.sleep(LINGER_SECONDS)
    return True


def store_group() -> Progress:
    """Claim a group that no worker died at, and store it.

    Raises what isn't the data's fault, with nothing changed: to be tried again.
    """
    with transaction.atomic():
        waiting = _claim("attempts = 0 ORDER BY day, id", GROUP_BATCHES)
        group = _fitting(waiting)
        _store_or_blame(waiting, group)
    if not waiting:
        return Progress.DONE
    return Progress.SOME if len(group) == len(waiting) < GROUP_BATCHES else Progress.MORE


def store_suspect() -> bool:
    """Claim one batch at which a worker died, the least suspect first, and store it alone.

    False where there is none.
    """
    with transaction.atomic():
        waiting = _claim("attempts > 0 ORDER BY attempts, day, id", 1)
        _store_or_blame(waiting, waiting)
    return bool(waiting)


def _store_or_blame(waiting: list[Waiting], group: list[Waiting]) -> None:
    """Store the group, unless a worker died at some of what is claimed: blame these instead."""
    if not waiting:
        return
    if left := attempts.left_by_the_dead([batch.id for batch in waiting]):
        _blame([batch for batch in waiting if batch.id in left])
        attempts.settle(left)
        return
    with attempts.noted([batch.id for batch in group]):
        _store(group)


def _claim(which: LiteralString, most: int) -> list[Waiting]:
    """Lock the first waiting batches that nobody else has locked."""
    rows = execute(
        f"""
        SELECT id, day, project_id, batch_id, body_bytes, attempts, request_id, format,
            received_at, received - rejected - suppressed - stored, error <> '' FROM ingest_batch
        WHERE state = 'received' AND {which} LIMIT %s
        FOR NO KEY UPDATE SKIP LOCKED
        """,
        [most],
    )
    return [Waiting(*row) for row in rows]


def _fitting(waiting: list[Waiting]) -> list[Waiting]:
    """As many of `waiting` as may share a transaction's memory, one at least."""
    group: list[Waiting] = []
    size = 0
    for batch in waiting:
        size += batch.body_bytes
        if group and size > GROUP_BYTES:
            break
        group.append(batch)
    return group


def _blame(batches: list[Waiting]) -> None:
    """Count a death at each batch; the dead ones are kept for replay."""
    for batch in batches:
        with _about(batch):
            logger.warning("a worker died at the batch, %d of %d", batch.attempts + 1, MOST_DEATHS)
    execute(
        "UPDATE ingest_batch SET attempts = attempts + 1 WHERE day = ANY(%s) AND id = ANY(%s)",
        _keys(batches),
    )
    execute(
        """
        UPDATE ingest_batch SET state = 'dead', error = 'workers died while storing it',
            dead = received - rejected - suppressed - stored
        WHERE day = ANY(%s) AND id = ANY(%s) AND attempts >= %s
        """,
        [*_keys(batches), MOST_DEATHS],
    )
    dead = [batch for batch in batches if batch.attempts + 1 >= MOST_DEATHS]
    _count_once_committed(dead, {batch: batch.events for batch in dead}, {})


def _keys(batches: Iterable[Waiting]) -> tuple[list[date], list[int]]:
    """Days and ids: the days let PostgreSQL look into few partitions, an id alone is unique."""
    batches = list(batches)
    return sorted({batch.day for batch in batches}), [batch.id for batch in batches]


def _store(group: list[Waiting]) -> None:
    """Copy the group's events and settle its batches, within the caller's transaction."""
    rows, unreadable = _read(group)
    rows, left_out = restrictions.leave_out(rows)
    rows, failures = _sort(rows)
    failures += copy_rows(rows)
    deliveries.write(rows, failures)
    failed: dict[Waiting, list[Failure]] = defaultdict(list)
    for failure in failures:
        failed[failure.row.batch].append(failure)
    _count_suppressed(left_out)
    _mark_stored([batch for batch in group if batch not in failed and batch not in unreadable])
    dead = {batch: _mark_dead(batch, failures) for batch, failures in failed.items()}
    for batch, error in unreadable.items():
        _bury(batch, error)
        dead[batch] = batch.events
    _count_once_committed(group, dead, left_out)


def _count_once_committed(
    batches: list[Waiting], dead: Mapping[Waiting, int], suppressed: Mapping[Waiting, int]
) -> None:
    """Tell the metrics what became of these batches: so many events of each aren't stored."""
    transaction.on_commit(partial(_count, batches, dead, suppressed))


def _count(
    batches: list[Waiting], dead: Mapping[Waiting, int], suppressed: Mapping[Waiting, int]
) -> None:
    now = timezone.now()
    for batch in batches:
        stored = batch.events
        for outcome, of_batch in (("dead", dead), ("suppressed", suppressed)):
            if count := of_batch.get(batch, 0):
                instruments.events(batch.format, outcome).inc(count)
                stored -= count
        if stored > 0:
            instruments.events(batch.format, "stored").inc(stored)
            if not batch.replayed:
                seconds = (now - batch.received_at).total_seconds()
                instruments.accepted_to_stored_seconds(batch.format).observe(seconds)


def _read(group: list[Waiting]) -> tuple[list[Row], dict[Waiting, str]]:
    """The events of a group, and what is wrong with the payloads that can't be read."""
    batches = {batch.id: batch for batch in group}
    rows: list[Row] = []
    unreadable: dict[Waiting, str] = {}
    for ledger_id, payload in execute(
        "SELECT id, payload FROM ingest_batch WHERE day = ANY(%s) AND id = ANY(%s)", _keys(group)
    ):
        batch = batches[ledger_id]
        try:
            rows += [Row(batch, record) for record in unpack(payload or b"")]
        except UNREADABLE as error:
            unreadable[batch] = f"the payload can't be read: {error}"
    return rows, unreadable


def _sort(rows: list[Row]) -> tuple[list[Row], list[Failure]]:
    """Rows that may be stored, and those past their table's retention (a late replay's)."""
    earliest = {kind: _kept_since(table.partitioned) for kind, table in TABLES.items()}
    late = [row for row in rows if row.record.occurred < earliest[type(row.record)]]
    if not late:
        return rows, []
    return (
        [row for row in rows if row.record.occurred >= earliest[type(row.record)]],
        [Failure(row, "too_old: past its table's retention") for row in late],
    )


def _kept_since(table: Partitioned) -> int:
    """Microseconds since 1970 of the first moment that a table keeps."""
    day = timezone.now().date() - timedelta(days=table.keep)
    return microseconds(datetime.combine(day, datetime.min.time(), UTC))


def _about(batch: Waiting) -> AbstractContextManager[None]:
    """Around lines about one batch, which then name it and the request that brought it."""
    return logs.about(batch_id=str(batch.batch_id), request_id=batch.request_id)


def _count_suppressed(left_out: dict[Waiting, int]) -> None:
    """Count what persons don't let be stored; before the rest of a batch is counted as stored."""
    for batch, items in left_out.items():
        execute(
            "UPDATE ingest_batch SET suppressed = suppressed + %s WHERE day = %s AND id = %s",
            [items, batch.day, batch.id],
        )


def _mark_stored(batches: list[Waiting]) -> None:
    execute(
        """
        UPDATE ingest_batch SET state = 'stored', stored_at = %s, payload = NULL, error = '',
            stored = received - rejected - suppressed
        WHERE day = ANY(%s) AND id = ANY(%s)
        """,
        [timezone.now(), *_keys(batches)],
    )
    if logger.isEnabledFor(logging.DEBUG):
        for batch in batches:
            with _about(batch):
                logger.debug("the batch is stored")


def _mark_dead(batch: Waiting, failures: list[Failure]) -> int:
    """Settle a batch of which something can't be stored: that alone is kept; how many events.

    What is counted are items as its client sent them: a snapshot is one, of many points.
    """
    error = failures[0].error
    dead = len({failure.row.record.position for failure in failures})
    with _about(batch):
        logger.error("%d events are dead: %s", dead, error)
    execute(
        """
        UPDATE ingest_batch SET state = 'dead', stored_at = %s, payload = %s, error = %s,
            dead = %s, stored = received - rejected - suppressed - %s
        WHERE day = %s AND id = %s
        """,
        [
            timezone.now(),
            pack([failure.row.record for failure in failures]),
            error,
            dead,
            dead,
            batch.day,
            batch.id,
        ],
    )
    return dead


def _bury(batch: Waiting, error: str) -> None:
    """Mark a batch dead as it is, its payload kept."""
    with _about(batch):
        logger.error("the batch is dead: %s", error)
    execute(
        """
        UPDATE ingest_batch SET state = 'dead', error = %s,
            dead = received - rejected - suppressed - stored
        WHERE day = %s AND id = %s
        """,
        [error, batch.day, batch.id],
    )


def replay(batches: Iterable[tuple[date, int]]) -> int:
    """Let dead batches wait once more, given by day and id; how many do."""
    return _settle_dead("state = 'received', attempts = 0, dead = 0", batches)


def discard(batches: Iterable[tuple[date, int]]) -> int:
    """Give dead batches up for good, by day and id; how many. Their events still count as dead."""
    return _settle_dead("state = 'discarded', payload = NULL", batches)


def _settle_dead(change: LiteralString, batches: Iterable[tuple[date, int]]) -> int:
    keys = list(batches)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE ingest_batch SET {change}
            WHERE state = 'dead' AND day = ANY(%s) AND id = ANY(%s)
            """,
            [sorted({day for day, _ in keys}), [ledger_id for _, ledger_id in keys]],
        )
        return int(cursor.rowcount)
