"""Months whose raw data is gone: nobody is in them any more, and nothing changes."""

import random
import threading
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from aggregation import retention, rollups, sealing
from aggregation.definitions import Bucket
from aggregation.models import (
    Build,
    Dimension,
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
from aggregation.queries.events import TOLD
from ingest import partitions
from telemetry_site.alone import alone_at
from tests.aggregation.placing import DAY, put, rolled_up, sums
from tests.aggregation.planting import Happened, answered, plant
from tests.aggregation.rolling import HOUR, event, hashed
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


def test_small_groups_are_one_of_nobody(old: Project) -> None:
    seal()
    for day in DAYS:
        assert of(EventDay, old, day) == {"a": (6, 6, 6), "b": (8, 8, 8), "(few)": (4, 0, 0)}
    assert of(EventMonth, old, MONTH) == {"a": (12, 6, 6), "b": (16, 8, 8), "(few)": (8, 0, 0)}
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
    # No name has few people on some days and many in the month.
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
    assert of(EventDay, project, DAYS[0]) == {"(few)": (3, 0, 0)}


def test_what_is_withheld_is_the_same_afterwards(service: Service, project: Project) -> None:
    """Had Tuesday's one person been left out there, month and days would give them away."""
    monday = {"a": range(8), "b": range(9), "c": range(10), "d": range(7), "e": range(3)}
    tuesday = {"a": range(1), "b": range(6), "c": range(10), "d": range(7), "f": range(2)}
    for day, names in zip(DAYS, (monday, tuesday), strict=True):
        put(
            project,
            *(event(name, day, subject=hashed(one)) for name, few in names.items() for one in few),
        )
    rolled_up(project)
    drop_raw_data()

    def told() -> dict[str, dict[str, Any]]:
        """What isn't withheld of each name, but for zeros."""
        asked = {"from_": MONTH, "to": DAYS[1] + DAY, "group_by": "event"}
        answers = {
            interval: answered(service, project, "events", interval=interval, **asked)["groups"]
            for interval in ("month", "day")
        }
        return {
            interval: {
                group["value"]: (group["count"], group["people"], group["withheld"])
                for group in groups
            }
            for interval, groups in answers.items()
        }

    before = told()
    assert before["month"]["a"] == ([9], [8], [0])
    assert before["day"]
    assert "a" not in before["day"]
    seal()
    assert told() == before
    assert of(EventDay, project, DAYS[1])["a"] == (0, 0, 0)
    Policy.objects.create(project_id=project_id(project), threshold=2)
    assert told() == before


@pytest.mark.parametrize("seed", range(3))
def test_nothing_new_is_told_afterwards(service: Service, project: Project, seed: int) -> None:
    chance = random.Random(seed)
    happened = []
    for days, name in product((0, 3, 4, 9), "abcdefgh"):
        for who in chance.sample(range(30), chance.choice((0, 1, 2, 3, 5, 6, 8, 12, 20))):
            version = {"version": chance.choice("123")}
            happened.append(Happened(MONTH + days * DAY, [who], name, version))
    Dimension.objects.create(project_id=project_id(project), name="version", path="client_version")
    plant(project, *happened)

    def told() -> dict[tuple[str, str, str], list[Any]]:
        """The numbers of each group that is told."""
        asked = {"from_": MONTH, "to": MONTH + 20 * DAY}
        return {
            (group_by, interval, group["value"]): [group[name] for name in TOLD]
            for group_by, interval in product(("", "event", "version"), ("month", "day"))
            for group in answered(
                service, project, "events", group_by=group_by, interval=interval, **asked
            )["groups"]
        }

    before = told()
    sealed = Seal.objects.create(project_id=project_id(project), kind="events", month=MONTH)
    for _ in sealing.wipe(sealed):
        assert told() == before
    Policy.objects.create(project_id=project_id(project), threshold=2)
    assert told() == before


def test_sealing_again_changes_nothing(old: Project) -> None:
    seal()
    before = sums(old, EventDay), sums(old, EventMonth)
    Seal.objects.filter(project_id=project_id(old)).update(wiped=False)
    seal()
    assert (sums(old, EventDay), sums(old, EventMonth)) == before


def test_a_run_that_is_killed_is_finished_by_the_next(old: Project) -> None:
    (sealed,) = retention._sealable()
    assert retention._put(sealed)
    run = sealing.wipe(sealed)
    for _ in range(2):
        next(run)
    assert 0 < sketches(old, EventDay) < sketches(old, EventMonth) + sketches(old, EventDay)
    assert not Seal.objects.get(project_id=project_id(old)).wiped
    seal()
    assert of(EventDay, old, DAYS[1]) == {"a": (6, 6, 6), "b": (8, 8, 8), "(few)": (4, 0, 0)}
    assert sketches(old, EventDay) == sketches(old, EventMonth) == 0


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
    assert of(EventMonth, old, MONTH) == {"a": (12, 6, 6), "b": (16, 8, 8), "(few)": (8, 0, 0)}
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
    assert of(EventDay, project, DAYS[0]) == {"a": (6, 6, 6), "b": (8, 8, 8), "(few)": (4, 0, 0)}


def test_measurements_lose_whose_they_are(service: Service, project: Project) -> None:
    before = timezone.now().date().replace(day=1) - 40 * DAY
    start = datetime(before.year, before.month, 1, 12, tzinfo=UTC)
    partitions.ensure(partitions.METRIC_HOURS, start.date())
    levels = ((MetricHour, start), (MetricDay, start - 12 * HOUR), (MetricMonth, start - 12 * HOUR))
    # Whose series it is, and of how many people in the hour, the day and the month.
    people = {b"one": (1, 1, 1), b"many": (2, 5, 5), b"node": (0, 0, 0)}
    table: Any
    for series, numbers in people.items():
        for (table, bucket), number in zip(levels, numbers, strict=True):
            table.objects.create(
                project_id=project_id(project), name="m", bucket=bucket, series=series,
                kind="gauge", cumulative=False, tags={"of": "someone"}, count=7, people=number,
                people_sketch=b"sketch" if number else b"", sum=7.0, last=1.0, last_at=start,
                quantiles=b"counts",
            )  # fmt: skip
    Build.objects.create(
        project_id=project_id(project), kind="points", level=2, bucket=start.replace(hour=0),
        built_at=timezone.now(), seconds=1,
    )  # fmt: skip
    seal()

    def left(table: Any) -> dict[bytes, tuple[int, int, Any, bytes]]:
        rows = table.objects.filter(project_id=project_id(project))
        assert all(bytes(row.people_sketch) == b"" for row in rows)
        return {
            bytes(row.series): (row.people, row.count, row.last, bytes(row.quantiles))
            for row in rows
        }

    assert (
        left(MetricMonth)
        == left(MetricDay)
        == {b"many": (5, 7, 1.0, b"counts"), b"node": (0, 7, 1.0, b"counts")}
    )
    assert left(MetricHour) == {b"many": (0, 0, None, b""), b"node": (0, 7, 1.0, b"counts")}
