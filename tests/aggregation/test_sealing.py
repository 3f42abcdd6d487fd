"""Months whose raw data is gone: nobody is in them any more, and nothing changes."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from aggregation import retention, rollups, sealing
from aggregation.definitions import Bucket
from aggregation.models import (
    Build,
    DirtyMark,
    EventDay,
    EventMonth,
    Kind,
    Level,
    MetricDay,
    MetricHour,
    MetricMonth,
    Policy,
    Seal,
)
from ingest import partitions
from telemetry_site.alone import alone_at
from tests.aggregation.placing import DAY, put, rolled_up, sums
from tests.aggregation.rolling import event, hashed
from tests.harness import Project, Service
from tests.ingest.traces import project_id

# Long before what is kept, long after what days are kept for.
MONTH = datetime.combine(
    (timezone.now().date() - 230 * DAY).replace(day=1), datetime.min.time(), UTC
)
DAYS = (MONTH + 3 * DAY, MONTH + 5 * DAY)
# How many people each name has, some of whom have others too.
PEOPLE = {"a": range(6), "b": range(8), "c": range(2), "d": range(1, 3)}


@pytest.fixture
def old(service: Service, project: Project) -> Project:
    """A project that sent something long ago, of which only days and the month are left."""
    for day in DAYS:
        put(project, *of_a_day(day))
    rolled_up(project)
    drop_raw_data()
    return project


def of_a_day(day: datetime) -> list[Any]:
    return [
        event(name, day, subject=hashed(number), session=hashed(100 + number))
        for name, numbers in PEOPLE.items()
        for number in numbers
    ]


def drop_raw_data() -> None:
    partitions.maintain()
    for table in (partitions.EVENTS, partitions.EVENT_HOURS):
        assert not any(partitions.exists(table, day.date()) for day in DAYS)


def seal() -> None:
    list(retention.apply())


def sketches(project: Project, table: Any) -> int:
    """How many rows have one."""
    rows = table.objects.filter(project_id=project_id(project))
    return rows.exclude(people_sketch=b"", sessions_sketch=b"").count()  # type: ignore[no-any-return]


def of(table: Any, project: Project, bucket: datetime) -> dict[str, tuple[int, int, int]]:
    """Count, people and sessions by event name."""
    rows = table.objects.filter(project_id=project_id(project), bucket=bucket)
    return {row.value: (row.count, row.people, row.sessions) for row in rows if row.dimension}


def test_small_groups_are_counted_together_until_they_are_enough(old: Project) -> None:
    seal()
    # c and d together are three people: a goes with them, and has all of them.
    for day in DAYS:
        assert of(EventDay, old, day) == {"b": (8, 8, 8), "(other)": (10, 6, 6)}
    assert of(EventMonth, old, MONTH) == {"b": (16, 8, 8), "(other)": (20, 6, 6)}
    for table in (EventDay, EventMonth):
        assert sketches(old, table) == 0
        assert sums(old, table)["", ""][0] == 36
    assert Seal.objects.get(project_id=project_id(old)).wiped
    assert not Build.objects.filter(project_id=project_id(old)).exists()


def test_counts_and_bytes_add_up(old: Project) -> None:
    def added_up() -> list[tuple[int, int]]:
        rows = EventDay.objects.filter(project_id=project_id(old))
        return [
            (
                sum(row.count for row in rows if row.dimension == name),
                sum(row.bytes for row in rows if row.dimension == name),
            )
            for name in ("", "event")
        ]

    before = added_up()
    seal()
    assert added_up() == before
    assert before[0] == before[1]


def test_a_project_that_shows_everything_keeps_small_groups(old: Project) -> None:
    Policy.objects.create(project_id=project_id(old), threshold=1)
    before = of(EventDay, old, DAYS[0])
    seal()
    assert of(EventDay, old, DAYS[0]) == before
    assert sketches(old, EventDay) == 0


def test_few_people_in_all_are_one_group(service: Service, project: Project) -> None:
    put(project, event("a", DAYS[0], subject=hashed(1)), event("b", DAYS[0], subject=hashed(2)))
    put(project, event("c", DAYS[0]))
    rolled_up(project)
    drop_raw_data()
    seal()
    assert of(EventDay, project, DAYS[0]) == {"(other)": (3, 2, 0)}


def test_sealing_again_changes_nothing(old: Project) -> None:
    seal()
    before = sums(old, EventDay), sums(old, EventMonth)
    Seal.objects.filter(project_id=project_id(old)).update(wiped=False)
    seal()
    assert (sums(old, EventDay), sums(old, EventMonth)) == before


def test_a_run_that_is_killed_is_finished_by_the_next(
    old: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold, calls = sealing._fold, []

    def dies(*words: Any) -> None:
        fold(*words)
        if words[1] == project_id(old):
            calls.append(words)
            if len(calls) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(sealing, "_fold", dies)
    with pytest.raises(KeyboardInterrupt):
        seal()
    assert of(EventDay, old, DAYS[0]) == {"b": (8, 8, 8), "(other)": (10, 6, 6)}
    assert len(of(EventDay, old, DAYS[1])) == len(PEOPLE), "it was undone"
    assert not Seal.objects.get(project_id=project_id(old)).wiped
    seal()
    assert of(EventDay, old, DAYS[1]) == {"b": (8, 8, 8), "(other)": (10, 6, 6)}
    assert sketches(old, EventMonth) == 0


def test_two_runs_at_once_do_it_once(old: Project) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(2)

    def run() -> None:
        barrier.wait()
        try:
            seal()
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert of(EventMonth, old, MONTH) == {"b": (16, 8, 8), "(other)": (20, 6, 6)}
    assert Seal.objects.get(project_id=project_id(old)).wiped


def test_what_is_sealed_is_never_made_again(old: Project) -> None:
    seal()
    before = sums(old, EventDay), sums(old, EventMonth)
    now = timezone.now()
    for level, bucket in [(0, DAYS[0]), (1, DAYS[0]), (2, MONTH)]:
        DirtyMark.objects.create(
            project_id=project_id(old), kind="events", level=level, bucket=bucket, marked_at=now
        )
    rolled_up(old)
    assert (sums(old, EventDay), sums(old, EventMonth)) == before


def test_a_month_that_is_dirty_is_made_before_it_is_sealed(
    service: Service, project: Project
) -> None:
    month = Bucket(Level.MONTH, MONTH, project_id(project), Kind.EVENTS)
    with alone_at(rollups.ROLLING_UP, month) as alone:
        assert alone
        put(project, *of_a_day(DAYS[0]))
        for level in (Level.HOUR, Level.DAY):
            marked = DirtyMark.objects.filter(project_id=project_id(project), level=level)
            while marked.exists():
                rollups.roll_up([level], 60)
        drop_raw_data()
        seal()
        assert not Seal.objects.filter(project_id=project_id(project)).exists()
        assert sketches(project, EventDay) == 5
    rolled_up(project)
    seal()
    assert of(EventMonth, project, MONTH)["b"] == (8, 8, 8)
    assert sketches(project, EventDay) == 0


def test_a_month_of_which_raw_data_is_left_is_not_sealed(
    service: Service, project: Project
) -> None:
    put(project, *of_a_day(DAYS[0]))
    rolled_up(project)
    seal()
    assert sketches(project, EventDay) == 5
    Policy.objects.create(project_id=project_id(project), event_days=200)
    # Its month has raw data of others left, and none of this project.
    seal()
    assert sketches(project, EventDay) == 0
    assert of(EventDay, project, DAYS[0]) == {"b": (8, 8, 8), "(other)": (10, 6, 6)}


def test_measurements_lose_whose_they_are(service: Service, project: Project) -> None:
    before = timezone.now().date().replace(day=1) - 40 * DAY
    start = datetime(before.year, before.month, 1, 12, tzinfo=UTC)
    partitions.ensure(partitions.METRIC_HOURS, start.date())
    whole: dict[str, Any] = {
        "project_id": project_id(project), "name": "m", "series": b"s" * 16, "kind": "gauge",
        "cumulative": False, "tags": {}, "count": 1, "people": 1, "people_sketch": b"sketch",
        "quantiles": b"",
    }  # fmt: skip
    MetricHour.objects.create(bucket=start, **whole)
    MetricDay.objects.create(bucket=start.replace(hour=0), **whole)
    MetricMonth.objects.create(bucket=start.replace(hour=0), **whole)
    Build.objects.create(
        project_id=project_id(project), kind="points", level=2, bucket=start.replace(hour=0),
        built_at=timezone.now(), seconds=1,
    )  # fmt: skip
    seal()
    for table in (MetricHour, MetricDay, MetricMonth):
        (row,) = table.objects.filter(project_id=project_id(project))
        assert (bytes(row.people_sketch), row.people) == (b"", 1)
