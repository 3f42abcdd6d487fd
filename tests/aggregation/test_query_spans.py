"""Buckets of time zones: without a gap, whatever their clocks do."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from aggregation.models import Level
from aggregation.queries.spans import BrokenHours, Span, back

HOUR = timedelta(hours=1)


def span(level: Level, zone: str, start: str, end: str) -> Span:
    moments = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end))
    return Span.around(level, ZoneInfo(zone), *moments)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Vienna", "2026-03-29", 23),
        ("Europe/Vienna", "2026-10-25", 25),
        ("Europe/Vienna", "2026-06-01", 24),
        # There midnight itself is left out, or comes twice.
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("America/Havana", "2026-11-01", 25),
    ],
)
def test_a_day_is_as_long_as_its_clock_has_it(zone: str, day: str, hours: int) -> None:
    noon = f"{day}T12:00:00"
    start, end = span(Level.DAY, zone, noon, f"{day}T12:01:00").edges
    assert end - start == hours * HOUR
    assert start.astimezone(ZoneInfo(zone)).date().isoformat() == day


def test_a_day_that_never_was_is_left_out() -> None:
    """Samoa went from the 29th to the 31st."""
    found = span(Level.DAY, "Pacific/Apia", "2011-12-29T12:00:00", "2012-01-01T09:00:00")
    days = [start.astimezone(ZoneInfo("Pacific/Apia")).day for start in found.starts]
    assert days == [29, 31, 1]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Vienna", "America/Havana", "Pacific/Apia"])
@pytest.mark.parametrize("level", Level)
def test_buckets_follow_each_other_and_are_whole(zone: str, level: Level) -> None:
    found = span(level, zone, "2026-02-27T05:17:00", "2026-04-03T11:00:01")
    assert all(start < end for start, end in pairwise(found.edges))
    assert found.start <= datetime(2026, 2, 27, 5, 17, tzinfo=UTC)
    assert found.end >= datetime(2026, 4, 3, 11, 0, 1, tzinfo=UTC)
    again = Span.around(level, ZoneInfo(zone), found.start, found.end)
    assert again.edges == found.edges


@pytest.mark.parametrize(
    ("zone", "level", "made_of"),
    [
        ("UTC", Level.MONTH, Level.MONTH),
        ("Africa/Abidjan", Level.DAY, Level.DAY),
        ("Europe/London", Level.DAY, Level.HOUR),
        ("Europe/Vienna", Level.HOUR, Level.HOUR),
        ("Europe/Vienna", Level.MONTH, Level.HOUR),
    ],
)
def test_what_is_a_bucket_of_utcs_is_not_made_of_hours(
    zone: str, level: Level, made_of: Level
) -> None:
    assert span(level, zone, "2026-06-03T00:00:00", "2026-06-05T00:00:00").made_of == made_of


def test_clocks_within_an_hour_of_utcs_are_refused() -> None:
    with pytest.raises(BrokenHours):
        span(Level.DAY, "Australia/Lord_Howe", "2026-06-01T00:00:00", "2026-06-02T00:00:00")
    # In summer they are whole hours off.
    span(Level.DAY, "Australia/Lord_Howe", "2026-01-01T00:00:00", "2026-01-02T00:00:00")


@pytest.mark.parametrize("buckets", [1, 12, 30])
@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Vienna"])
def test_so_many_buckets_back_are_so_many(level: Level, zone: str, buckets: int) -> None:
    end = span(level, zone, "2026-11-03T00:00:00", "2026-11-03T01:00:00").end
    start = back(level, ZoneInfo(zone), end, buckets)
    assert len(Span.around(level, ZoneInfo(zone), start, end).starts) == buckets
