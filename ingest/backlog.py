"""What waits in the ledger, for how long, and how quickly it goes: numbers at a bounded cost.

Nothing here reads more than so many rows, however many the ledger has.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, LiteralString

from django.db import connection
from django.utils import timezone

# Counting ends here: more is "more than".
MOST_COUNTED = 100_000
# The pace is that of the last minute, or of so many of the newest batches if they are younger.
PACE_SECONDS = 60.0
MOST_PACED = 10_000

# Index ingest_batch_waiting or ingest_batch_dead, in its order: without one PostgreSQL may gather
# all of a state before it counts the first.
COUNT = """
    SELECT count(*) FROM (
        SELECT FROM ingest_batch WHERE state = %s ORDER BY day, id LIMIT %s
    ) AS counted
"""
# Index ingest_batch_waiting, in its order.
OLDEST = """
    SELECT day, id, received_at FROM ingest_batch
     WHERE state = 'received' ORDER BY day, id LIMIT 1
"""
# The primary key, backwards from the newest.
ARRIVED = """
    SELECT count(*), min(at), count(*) FILTER (WHERE at > %s),
           coalesce(sum(received) FILTER (WHERE at > %s), 0)
      FROM (SELECT received_at AS at, received FROM ingest_batch
             ORDER BY day DESC, id DESC LIMIT %s) AS newest
"""
# The primary key, backwards from the oldest batch that waits: batches are stored in its order.
STORED = """
    SELECT count(*), min(at), count(*) FILTER (WHERE at > %s),
           coalesce(sum(stored) FILTER (WHERE at > %s), 0)
      FROM (SELECT stored_at AS at, stored FROM ingest_batch
             WHERE day <= %s AND (day, id) < (%s, %s)
             ORDER BY day DESC, id DESC LIMIT %s) AS behind
"""
NO_DAY, NO_ID = date.max, 2**63 - 1


@dataclass(frozen=True)
class Pace:
    """Batches and events a minute."""

    batches: float
    events: float


@dataclass(frozen=True)
class Backlog:
    """The ledger, now. Counts end at `MOST_COUNTED` + 1."""

    waiting: int
    oldest: datetime | None
    dead: int
    arrived: Pace
    stored: Pace


def look() -> Backlog:
    """How the ledger is."""
    day, ledger_id, oldest = _row(OLDEST) or (NO_DAY, NO_ID, None)
    return Backlog(
        waiting=_count("received"),
        oldest=oldest,
        dead=_count("dead"),
        arrived=_pace(ARRIVED),
        stored=_pace(STORED, day, day, ledger_id),
    )


def age() -> float | None:
    """Seconds that the oldest batch has waited; None where none waits."""
    oldest = _row(OLDEST)
    return (timezone.now() - oldest[2]).total_seconds() if oldest else None


def _count(state: str) -> int:
    return int(_row(COUNT, state, MOST_COUNTED + 1)[0])


def _pace(query: LiteralString, *place: Any) -> Pace:
    now = timezone.now()
    since = now - timedelta(seconds=PACE_SECONDS)
    seen, first, batches, events = _row(query, since, since, *place, MOST_PACED)
    seconds = PACE_SECONDS
    if seen == MOST_PACED and first is not None and first > since:
        # No further back than that was looked.
        seconds = max(1.0, (now - first).total_seconds())
    return Pace(batches * 60 / seconds, float(events) * 60 / seconds)


def _row(query: LiteralString, *parameters: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchone()
