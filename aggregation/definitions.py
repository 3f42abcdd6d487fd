"""What is rolled up, as data: the levels, their tables, and the dimensions a project declares."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from aggregation.models import (
    EventBucket,
    EventDay,
    EventHour,
    EventMonth,
    Kind,
    Level,
    MetricBucket,
    MetricDay,
    MetricHour,
    MetricMonth,
)
from ingest import partitions
from ingest.partitions import Partitioned

# Which rows a bucket of each kind and level has.
TABLES: dict[tuple[Kind, Level], type[EventBucket] | type[MetricBucket]] = {
    (Kind.EVENTS, Level.HOUR): EventHour,
    (Kind.EVENTS, Level.DAY): EventDay,
    (Kind.EVENTS, Level.MONTH): EventMonth,
    (Kind.POINTS, Level.HOUR): MetricHour,
    (Kind.POINTS, Level.DAY): MetricDay,
    (Kind.POINTS, Level.MONTH): MetricMonth,
}
# What hours are made from.
RAW: dict[Kind, Partitioned] = {Kind.EVENTS: partitions.EVENTS, Kind.POINTS: partitions.POINTS}

# Names of the dimensions that every project has: all events, and their names.
ALL, EVENT = "", "event"
# Values beyond these are counted together, so that totals stay right.
OTHER, NONE = "(other)", "(none)"
# What those of few people are together, once a month is sealed.
FEW = "(few)"
MOST_VALUES = 100
MOST_EVENTS = 1000
VALUE_LENGTH = 100


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """An hour, day or month (UTC) of what one project sent of a kind. `start` is its first
    moment."""

    level: Level
    start: datetime
    project_id: int
    kind: Kind

    @property
    def end(self) -> datetime:
        """The first moment behind it."""
        return following(self.level, self.start)

    @property
    def above(self) -> "Bucket | None":
        """The bucket that is made from this one and its neighbours."""
        if self.level == Level.MONTH:
            return None
        level = Level(self.level + 1)
        return Bucket(level, starting(level, self.start), self.project_id, self.kind)


def below(bucket: Bucket) -> QuerySet[Any]:
    """The rows of the buckets that one is made from, where that isn't raw data."""
    table: Any = TABLES[bucket.kind, Level(bucket.level - 1)]
    found: QuerySet[Any] = table.objects.filter(
        project_id=bucket.project_id, bucket__gte=bucket.start, bucket__lt=bucket.end
    )
    return found


def starting(level: Level, moment: datetime) -> datetime:
    """The first moment of the bucket that has `moment` in it."""
    start = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if level >= Level.DAY:
        start = start.replace(hour=0)
    return start.replace(day=1) if level == Level.MONTH else start


def following(level: Level, start: datetime) -> datetime:
    """The first moment behind the bucket that begins at `start`."""
    if level == Level.MONTH:
        return (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return start + (timedelta(days=1) if level == Level.DAY else timedelta(hours=1))


def midnight(day: date) -> datetime:
    """The first moment of a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
