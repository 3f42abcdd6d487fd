"""The outbox: what was stored and is to be sent, written in the transaction that stores it.

A delivery is claimed for a while and settled by whoever claimed it. A worker that dies leaves a
lease that ends: what it had claimed is sent again.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate
from typing import LiteralString

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from ingest import partitions
from ingest.copying import Failure, Row
from ingest.forwarding import destinations
from ingest.forwarding.answers import Answer
from ingest.models import Delivery
from ingest.moments import Moments
from ingest.nudges import forward_nudger
from ingest.prepared import execute
from ingest.records import StoredPoint, StoredRecord

logger = logging.getLogger(__name__)

# Longer than a request takes (`OTEL_COLLECTOR_TIMEOUT_MS` is 30 s at the most).
LEASE_SECONDS = 60
# Bounds of a claim: so many deliveries, and so many decoded bytes of theirs.
MOST_DELIVERIES = 200
MOST_BYTES = 4 * 1024**2
EXPIRED_AT_ONCE = 1_000

State = Delivery.State
Signal = Delivery.Signal
_SIGNALS = {StoredRecord: Signal.LOGS, StoredPoint: Signal.METRICS}


@dataclass(frozen=True, slots=True)
class Claim:
    """Deliveries that nobody else sends until the lease ends."""

    leased_until: datetime
    days: list[date]  # where to look for the ids
    ids: list[int]
    items: int
    is_full: bool  # more may wait

    def __len__(self) -> int:
        return len(self.ids)


# --- Writing --------------------------------------------------------------------------------------


def write(rows: Sequence[Row], failures: Sequence[Failure]) -> None:
    """What of a group was stored: its rows but the failures. In the storing transaction."""
    going = destinations.of({row.batch.project_id for row in rows})
    if not going:
        return
    failed = {id(failure.row) for failure in failures}
    parcels: dict[tuple[int, type], list[Row]] = defaultdict(list)
    for row in rows:
        if row.batch.project_id in going and id(row) not in failed:
            parcels[row.batch.id, type(row.record)].append(row)
    if parcels:
        parts = {failure.row.batch.id for failure in failures}
        _insert([*parcels.values()], going, parts)
        transaction.on_commit(forward_nudger.request)


def _insert(parcels: list[list[Row]], going: dict[int, int], parts: set[int]) -> None:
    now = timezone.now()
    _make_day(now.date())
    batches = [parcel[0].batch for parcel in parcels]
    moments = [sorted({row.record.occurred for row in parcel}) for parcel in parcels]
    # A part of a batch: what else of it is stored, before or later, has a delivery of its own.
    places = [
        [place(row) for row in parcel] if batch.replayed or batch.id in parts else []
        for parcel, batch in zip(parcels, batches, strict=True)
    ]
    execute(
        """
        INSERT INTO ingest_delivery (day, project_id, destination_id, ledger_day, ledger_id,
            batch_id, signal, state, received_at, waiting_since, moments, places, items, body_bytes)
        SELECT %(day)s, project, destination, ledger_day, ledger, batch, signal, 'waiting',
            received_at, %(now)s,
            (%(moments)s::timestamptz[])[last_moment - moments + 1:last_moment],
            CASE WHEN places > 0
                THEN (%(places)s::int4[])[last_place - places + 1:last_place] END,
            items, bytes
        FROM unnest(%(projects)s::int4[], %(destinations)s::int8[], %(ledger_days)s::date[],
            %(ledgers)s::int8[], %(batches)s::uuid[], %(signals)s::text[],
            %(received)s::timestamptz[], %(counts)s::int4[], %(lasts)s::int4[],
            %(place_counts)s::int4[], %(place_lasts)s::int4[], %(items)s::int4[], %(bytes)s::int4[])
            AS parcel (project, destination, ledger_day, ledger, batch, signal, received_at,
                moments, last_moment, places, last_place, items, bytes)
        """,
        {
            "day": now.date(),
            "now": now,
            "moments": Moments(moment for each in moments for moment in each),
            "places": [number for each in places for number in each],
            "projects": [batch.project_id for batch in batches],
            "destinations": [going[batch.project_id] for batch in batches],
            "ledger_days": [batch.day for batch in batches],
            "ledgers": [batch.id for batch in batches],
            "batches": [batch.batch_id for batch in batches],
            "signals": [_SIGNALS[type(parcel[0].record)].value for parcel in parcels],
            "received": [batch.received_at for batch in batches],
            "counts": [len(each) for each in moments],
            "lasts": [*accumulate(len(each) for each in moments)],
            "place_counts": [len(each) for each in places],
            "place_lasts": [*accumulate(len(each) for each in places)],
            "items": [len(parcel) for parcel in parcels],
            "bytes": [batch.body_bytes for batch in batches],
        },
    )


def place(row: Row) -> int:
    """Which of its batch's rows one is."""
    part = row.record.part if isinstance(row.record, StoredPoint) else 0
    return row.record.position * 65_536 + part


_days_made: set[date] = set()


def _make_day(day: date) -> None:
    """Make today's partition, should maintenance not have run for a week."""
    if day not in _days_made:
        partitions.ensure(partitions.DELIVERIES, day)
        _days_made.add(day)


# --- Sending --------------------------------------------------------------------------------------


def claim(destination: int, signal: str, most_items: int) -> Claim | None:
    """Take what has waited longest, as much as may share a request, and one delivery at least.

    None where nothing waits that nobody else has.
    """
    with transaction.atomic():
        waiting = execute(
            """
            SELECT day, id, items, body_bytes FROM ingest_delivery
            WHERE state = 'waiting' AND destination_id = %s AND signal = %s
                AND (leased_until IS NULL OR leased_until <= now())
            ORDER BY waiting_since, id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
            """,
            [destination, signal, MOST_DELIVERIES],
        ).fetchall()
        days: set[date] = set()
        ids: list[int] = []
        total = size = 0
        for day, number, items, body_bytes in waiting:
            if ids and (total + items > most_items or size + body_bytes > MOST_BYTES):
                break
            days.add(day)
            ids.append(number)
            total += items
            size += body_bytes
        if not ids:
            return None
        leased = execute(
            """
            UPDATE ingest_delivery SET attempts = attempts + 1,
                leased_until = now() + make_interval(secs => %s)
            WHERE day = ANY(%s) AND id = ANY(%s) RETURNING leased_until
            """,
            [LEASE_SECONDS, [*days], ids],
        ).fetchone()
    assert leased is not None
    is_full = len(ids) < len(waiting) or len(waiting) == MOST_DELIVERIES
    return Claim(leased[0], [*days], ids, total, is_full)


def delivered(claimed: Claim, answer: Answer) -> None:
    """The collector has them, no matter whose lease it is by now."""
    _settle(
        claimed,
        "state = 'delivered', moments = NULL, places = NULL, settled_at = now()",
        "state <> 'delivered'",
        answer,
    )


def dead(claimed: Claim, answer: Answer) -> None:
    """The collector refused them for good: kept for replay."""
    _settle(claimed, "state = 'dead', settled_at = now()", _OURS, answer)


def release(claimed: Claim, answer: Answer) -> None:
    """They are to be sent again."""
    _settle(claimed, "state = 'waiting'", _OURS, answer)


_OURS: LiteralString = "state = 'waiting' AND leased_until = %(lease)s"


def _settle(claimed: Claim, change: LiteralString, which: LiteralString, answer: Answer) -> None:
    execute(
        f"""
        UPDATE ingest_delivery SET {change}, leased_until = NULL, status = %(status)s,
            error = %(words)s, rejected = %(rejected)s
        WHERE day = ANY(%(days)s) AND id = ANY(%(ids)s) AND {which}
        """,
        {
            "status": answer.status,
            "words": answer.words,
            "rejected": answer.rejected,
            "days": claimed.days,
            "ids": claimed.ids,
            "lease": claimed.leased_until,
        },
    )


def expire(destination: int, signal: str) -> int:
    """Give up what has waited for too long, `EXPIRED_AT_ONCE` at the most; how many."""
    expired = execute(
        """
        UPDATE ingest_delivery SET state = 'expired', settled_at = now() FROM (
            SELECT day, id FROM ingest_delivery
            WHERE state = 'waiting' AND destination_id = %s AND signal = %s
                AND waiting_since < now() - make_interval(hours => %s)
                AND (leased_until IS NULL OR leased_until <= now())
            ORDER BY waiting_since, id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
        ) AS late
        WHERE ingest_delivery.day = late.day AND ingest_delivery.id = late.id
        """,
        [destination, signal, settings.FORWARD_HOURS, EXPIRED_AT_ONCE],
    ).rowcount
    if expired:
        logger.error("%d deliveries to destination %d have expired", expired, destination)
    return expired


# --- Replay ---------------------------------------------------------------------------------------


def replay(deliveries: Iterable[tuple[date, int]]) -> int:
    """Let deliveries that were dead or expired wait once more, given by day and id; how many do.

    They go where what their projects store goes now, if that is anywhere.
    """
    keys = [*deliveries]
    days, ids = [*{day for day, _ in keys}], [number for _, number in keys]
    with transaction.atomic():
        projects = {
            project
            for (project,) in execute(
                "SELECT project_id FROM ingest_delivery WHERE day = ANY(%s) AND id = ANY(%s)",
                [days, ids],
            )
        }
        going = destinations.of(projects)
        replayed = execute(
            """
            UPDATE ingest_delivery SET state = 'waiting', waiting_since = now(), attempts = 0,
                settled_at = NULL, destination_id = going.destination
            FROM unnest(%s::int4[], %s::int8[]) AS going (project, destination)
            WHERE day = ANY(%s) AND id = ANY(%s) AND state IN ('dead', 'expired')
                AND project_id = going.project
            """,
            [[*going], [*going.values()], days, ids],
        ).rowcount
        transaction.on_commit(forward_nudger.request)
    return replayed
