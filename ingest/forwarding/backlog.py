"""What waits in the outbox, for how long, and what was given up: numbers at a bounded cost."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from ingest.forwarding import destinations
from ingest.prepared import execute

# Counting ends here, for each destination and signal: more is "more than".
MOST_COUNTED = 100_000


@dataclass(slots=True)
class Backlog:
    """What waits for a destination, and what it didn't get. Counts end at `MOST_COUNTED` + 1."""

    waiting: int = 0
    oldest: datetime | None = None
    undelivered: int = 0
    is_failing: bool = False


def look() -> dict[int, Backlog]:
    """By destination; those for which there is nothing are left out."""
    found: dict[int, Backlog] = defaultdict(Backlog)
    queues = destinations.queues()
    counts = _waiting([queue.key for queue in queues])
    for queue in queues:
        backlog = found[queue.destination]
        backlog.waiting = min(backlog.waiting + counts[queue.key], MOST_COUNTED + 1)
        backlog.oldest = min(filter(None, (backlog.oldest, queue.oldest)))
        backlog.is_failing = queue.failures > 0 and not queue.is_moved
    for destination, undelivered in _undelivered().items():
        found[destination].undelivered = undelivered
    return dict(found)


def _waiting(keys: list[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """How much waits, by destination and signal. Index: ingest_delivery_waiting, in its order."""
    rows = execute(
        """
        SELECT queue.destination, queue.signal, counted.number
        FROM unnest(%s::int8[], %s::text[]) AS queue (destination, signal), LATERAL (
            SELECT count(*) AS number FROM (
                SELECT FROM ingest_delivery WHERE state = 'waiting'
                    AND destination_id = queue.destination AND signal = queue.signal
                ORDER BY waiting_since, id LIMIT %s
            ) AS first
        ) AS counted
        """,
        [[key[0] for key in keys], [key[1] for key in keys], MOST_COUNTED + 1],
    )
    return {(destination, signal): number for destination, signal, number in rows}


def _undelivered() -> dict[int, int]:
    """How much is dead or expired, by destination, of the latest. Index: ingest_delivery_dead."""
    rows = execute(
        """
        SELECT destination_id, count(*) FROM (
            SELECT destination_id FROM ingest_delivery WHERE state IN ('dead', 'expired')
            ORDER BY day DESC, id DESC LIMIT %s
        ) AS latest GROUP BY 1
        """,
        [MOST_COUNTED + 1],
    )
    return dict(rows.fetchall())
