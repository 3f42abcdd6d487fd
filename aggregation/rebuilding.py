"""Making buckets anew at once, at an operator's word: what is dirty, or all there is of some time.

What is marked here stays dirty until it is made, whoever makes it: a worker does the rest of a run
that is stopped.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import product
from typing import LiteralString

from django.db import connection
from django.db.models import Max
from django.utils import timezone
from psycopg import sql

from aggregation import marks, retention, rollups
from aggregation.definitions import RAW, TABLES, Bucket, midnight, starting
from aggregation.models import DirtyMark, Kind, Level
from ingest import partitions

# Between two looks at a bucket that a worker is making.
_PAUSE_SECONDS = 0.2

# Told after each bucket: the level, how many of it are made, and of how many.
Progress = Callable[[Level, int, int], None]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which buckets are meant: of these projects, that have something of a time in them."""

    projects: Collection[int]
    start: datetime
    end: datetime

    @classmethod
    def of_days(cls, projects: Collection[int], first: date, behind: date) -> "Scope":
        """From a day until before another."""
        start, end = map(midnight, (first, behind))
        return cls(projects, start, end)

    @classmethod
    def of_always(cls, projects: Collection[int]) -> "Scope":
        return cls(projects, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))

    def days(self, kind: Kind) -> list[datetime]:
        """The first moments of those of its days that a kind may have something of."""
        tables = (RAW[kind].table, retention.HOURS[kind].table)
        there = partitions.attached_days()
        days = set[date]().union(*(there[table] for table in tables))
        moments = map(midnight, sorted(days))
        return [moment for moment in moments if self.start <= moment < self.end]


@dataclass(frozen=True, slots=True)
class Marked:
    """How many buckets are dirty now, and how many hours can't be made any more."""

    dirty: int
    sealed: int


def mark(scope: Scope) -> Marked:
    """Mark whatever there is of some time; what is sealed stays as it is."""
    dirty: list[Bucket] = []
    sealed = 0
    days = [(kind, day) for kind in Kind for day in scope.days(kind)]
    for project, (kind, day) in product(scope.projects, days):
        hours = _hours(Bucket(Level.DAY, day, project, kind))
        if not hours:
            continue
        if not retention.is_sealed(hours[0]):
            dirty += hours
            continue
        sealed += len(hours)
        assert hours[0].above is not None
        if not retention.is_sealed(hours[0].above):
            dirty.append(hours[0].above)
    now = timezone.now()
    DirtyMark.objects.bulk_create(
        DirtyMark(
            project_id=bucket.project_id,
            kind=bucket.kind,
            level=bucket.level,
            bucket=bucket.start,
            marked_at=now,
        )
        for bucket in dirty
    )
    return Marked(len(dirty), sealed)


def make(scope: Scope, progress: Progress) -> dict[Level, int]:
    """Make what is dirty of a scope; how many of each level.

    Doesn't wait for the turn of what was made a moment ago. A level is through before the next
    begins, so that no day is made from hours that are dirty.
    """
    marks.spread_persons()
    return {level: _make_level(level, scope, progress) for level in Level}


def _make_level(level: Level, scope: Scope, progress: Progress) -> int:
    """What is marked from now on isn't waited for: the open hour always is again."""
    last = DirtyMark.objects.aggregate(Max("pk"))["pk__max"] or 0
    left = _dirty(level, scope, last)
    total, done = len(left), 0
    while left:
        made = 0
        for bucket in left:
            made += rollups.make(bucket)
            progress(level, min(total, done + made), total)
        left = _dirty(level, scope, last)
        done = total - len(left)
        if left and not made:
            # Workers are at all of them.
            time.sleep(_PAUSE_SECONDS)
    return total


def _dirty(level: Level, scope: Scope, last: int) -> list[Bucket]:
    """The buckets of a level that have marks up to the last one, in their order."""
    found = DirtyMark.objects.filter(
        level=level,
        pk__lte=last,
        project_id__in=scope.projects,
        bucket__gte=starting(level, scope.start),
        bucket__lt=scope.end,
    )
    rows = found.values_list("project_id", "kind", "bucket").order_by("bucket", "project_id")
    return [Bucket(level, start, project, Kind(kind)) for project, kind, start in rows.distinct()]


def _hours(day: Bucket) -> list[Bucket]:
    """The hours of a day that there is something of, raw or rolled up."""
    statement = sql.SQL(_HOURS).format(
        raw=sql.Identifier(RAW[day.kind].table),
        made=sql.Identifier(TABLES[day.kind, Level.HOUR]._meta.db_table),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, {"project": day.project_id, "start": day.start, "end": day.end})
        rows = cursor.fetchall()
    return [Bucket(Level.HOUR, hour, day.project_id, day.kind) for (hour,) in rows]


# By the tables' primary keys, an hour at a time.
_HOURS: LiteralString = """
    SELECT hour FROM generate_series(
        %(start)s::timestamptz, %(end)s::timestamptz - interval '1 hour', interval '1 hour'
    ) AS hour
    WHERE EXISTS (
        SELECT FROM {raw} WHERE project_id = %(project)s AND occurred_at >= hour
            AND occurred_at < hour + interval '1 hour'
            AND occurred_at >= %(start)s AND occurred_at < %(end)s
    ) OR EXISTS (
        SELECT FROM {made} WHERE project_id = %(project)s AND bucket = hour
            AND bucket >= %(start)s AND bucket < %(end)s
    )
"""
