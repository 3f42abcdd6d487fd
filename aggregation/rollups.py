"""Making dirty buckets anew: one loop for every kind and level.

A bucket is never patched. Its marks are read, then its data, in short statements that hold no
snapshot open; then its rows are replaced and just these marks taken away, in one transaction. What
is committed meanwhile brings marks of its own: a bucket that has half of it stays dirty. A death
leaves everything as it was.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import transaction
from psycopg import sql
from psycopg.types.json import JsonbDumper

from aggregation import event_rollups, marks, metric_rollups, retention
from aggregation.definitions import TABLES, Bucket
from aggregation.models import EventBucket, Kind, Level, MetricBucket
from ingest import partitions, prepared
from telemetry_site.alone import alone_at
from telemetry_site.monitoring import instruments

BUCKETS_AT_ONCE = 100
Rows = Sequence[EventBucket] | Sequence[MetricBucket]
# How an hour is made from raw data, and a bucket from those below it.
FROM_RAW: dict[Kind, Callable[[Bucket], Rows]] = {
    Kind.EVENTS: event_rollups.from_raw,
    Kind.POINTS: metric_rollups.from_raw,
}
FROM_BELOW: dict[Kind, Callable[[Bucket], Rows]] = {
    Kind.EVENTS: event_rollups.from_below,
    Kind.POINTS: metric_rollups.from_below,
}
# Advisory locks of this kind, one a bucket.
ROLLING_UP = 0x726F6C6C  # "roll"


def roll_up(levels: Iterable[Level], seconds: float) -> None:
    """Make what is dirty of these levels, one after the other, until the time is over."""
    deadline = time.monotonic() + seconds
    marks.spread_persons()
    for level in levels:
        while buckets := marks.due(level, BUCKETS_AT_ONCE):
            made = 0
            for bucket in buckets:
                if time.monotonic() > deadline:
                    return
                made += make(bucket)
            if not made:
                break


def make(bucket: Bucket) -> bool:
    """Make one bucket anew, or forget its marks where it is sealed; False where it is clean, or
    another worker is at it."""
    with alone_at(ROLLING_UP, bucket) as alone:
        if not alone or (seen := marks.seen(bucket)) is None:
            return False
        if retention.is_sealed(bucket):
            marks.forget(seen)
            return True
        started = time.monotonic()
        made = (FROM_BELOW if bucket.level else FROM_RAW)[bucket.kind](bucket)
        if bucket.level == Level.HOUR:
            _ensure_day(bucket)
        with transaction.atomic():
            _replace(bucket, made)
            marks.settle(bucket, seen, time.monotonic() - started)
        instruments.rollups(bucket.level.name.lower()).inc()
    return True


def _ensure_day(hour: Bucket) -> None:
    """Make the hours' day where the raw data's is older than what is made ahead of need."""
    table, day = retention.HOURS[hour.kind], hour.start.date()
    if not partitions.exists(table, day):
        partitions.ensure(table, day)


def _replace(bucket: Bucket, made: Rows) -> None:
    table: Any = TABLES[bucket.kind, bucket.level]
    table.objects.filter(project_id=bucket.project_id, bucket=bucket.start).delete()
    _copy(table, made)


def _copy(table: Any, made: Rows) -> None:
    """Write rows as they are: what Django makes of each before it is sent costs more than it took
    to make them, where there are many or their arrays are long."""
    fields = table._meta.concrete_fields
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table._meta.db_table),
        sql.SQL(", ").join(sql.Identifier(field.column) for field in fields),
    )
    cursor = prepared.cursor()
    cursor.adapters.register_dumper(dict, JsonbDumper)
    with cursor.copy(statement) as copy:
        for row in made:
            copy.write_row([getattr(row, field.attname) for field in fields])
