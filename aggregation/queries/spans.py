"""Which buckets an answer is of: hours, days or months of a time zone, without a gap."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

from aggregation.definitions import following, starting
from aggregation.models import Level

HOUR = timedelta(hours=1)


class BrokenHours(ValueError):
    """A bucket would begin within an hour of UTC's."""


@dataclass(frozen=True)
class Span:
    """Whole buckets, one after the other. `edges` are their first moments and the last one's end,
    in UTC."""

    level: Level
    zone: ZoneInfo
    edges: tuple[datetime, ...]

    @classmethod
    def around(cls, level: Level, zone: ZoneInfo, start: datetime, end: datetime) -> "Span":
        """The buckets that have a moment from `start` until before `end` in them.

        Raises BrokenHours where the zone's clock isn't whole hours off UTC's.
        """
        edges = tuple(_edges(level, zone, start, end))
        if any(edge.minute or edge.second for edge in edges):
            raise BrokenHours
        return cls(level, zone, edges)

    @property
    def start(self) -> datetime:
        return self.edges[0]

    @property
    def end(self) -> datetime:
        return self.edges[-1]

    @property
    def starts(self) -> tuple[datetime, ...]:
        """The first moment of each bucket."""
        return self.edges[:-1]

    @cached_property
    def made_of(self) -> Level:
        """The level of the rollups that the buckets are, or that they consist of."""
        are = all(
            starting(self.level, edge) == edge and following(self.level, edge) == after
            for edge, after in pairwise(self.edges)
        )
        return self.level if are else Level.HOUR

    def seconds(self, now: datetime) -> list[float]:
        """How long each bucket has lasted."""
        return [(min(end, now) - start).total_seconds() for start, end in pairwise(self.edges)]

    def local(self, moment: datetime) -> datetime:
        """A moment as the zone's clocks show it."""
        return moment if self.zone.key == "UTC" else moment.astimezone(self.zone)


def whole(level: Level, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The buckets of UTC around a time: the first moment of the first, and the last one's end."""
    first, last = starting(level, start), starting(level, end)
    return first, last if last == end else following(level, last)


def floor(level: Level, zone: ZoneInfo, moment: datetime) -> datetime:
    """The first moment of a zone's bucket that has `moment` in it."""
    local = moment.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    if level == Level.HOUR:
        return local.astimezone(UTC)
    return _first_moment(local.replace(day=1) if level == Level.MONTH else local, zone)


def back(level: Level, zone: ZoneInfo, end: datetime, buckets: int) -> datetime:
    """The first moment of so many buckets of a zone, which end at `end`."""
    last = end.astimezone(zone).replace(tzinfo=None)
    if level == Level.MONTH:
        month = last.year * 12 + last.month - 1 - buckets
        return _first_moment(datetime(month // 12, month % 12 + 1, 1, tzinfo=zone), zone)
    if level == Level.DAY:
        return _first_moment((last - timedelta(days=buckets)).replace(tzinfo=zone), zone)
    return end - buckets * HOUR


def behind(level: Level, zone: ZoneInfo, start: datetime) -> datetime:
    """The first moment behind a zone's bucket that begins at `start`."""
    if level == Level.HOUR:
        return start + HOUR
    local = start.astimezone(zone).replace(tzinfo=None)
    # A day may begin at one o'clock, and be missing altogether.
    days = 1 if level == Level.DAY else 32
    while True:
        ahead = (local + timedelta(days=days)).replace(tzinfo=zone)
        after = _first_moment(ahead.replace(day=1) if level == Level.MONTH else ahead, zone)
        if after > start:
            return after
        days += 1


def _edges(level: Level, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    edge = floor(level, zone, start)
    yield edge
    while edge < end:
        edge = behind(level, zone, edge)
        yield edge


def _first_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """A day's, in UTC. Where midnight is left out it is the moment the clock jumps."""
    midnight = datetime(local.year, local.month, local.day, tzinfo=zone)
    return midnight.astimezone(UTC)
