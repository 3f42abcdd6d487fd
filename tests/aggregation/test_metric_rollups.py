"""Measurements by the hour, day and month: what each kind adds up to, of whom, and by what."""

import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, repeat
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from aggregation import definitions, marks, metric_rollups, tallies
from aggregation.models import DirtyMark, Kind, Level, MetricDay, MetricHour, MetricMonth
from aggregation.quantiles import ACCURACY, Quantiles, unpacked
from ingest import erasing
from ingest.erasing import Person
from ingest.models import MetricPoint
from privacy import restrictions
from tests.aggregation.expiring import Kept
from tests.aggregation.rolling import HOUR, hashed, hour, point, roll_up, rolling, store
from tests.harness import Project
from tests.ingest.traces import project_id

LEVELS = (MetricHour, MetricDay, MetricMonth)
LARGEST = sys.float_info.max
MINUTE = timedelta(minutes=1)
# An hour that is over, and stays the same while this runs.
START = hour()
DAY_BEFORE = hour(30)


@pytest.fixture
def in_a_transaction(service: object) -> Iterator[None]:
    with rolling():
        yield


transactional = pytest.mark.usefixtures("in_a_transaction")


def rows(project: Project, table: Any = MetricHour, **which: Any) -> list[Any]:
    found = table.objects.filter(project_id=project_id(project), **which)
    return list(found.order_by("bucket", "name", "kind", "node", "tags"))


def counter(value: float, at: datetime | None = None, **fields: Any) -> Any:
    """A cumulative one."""
    return point(at, "counter", cumulative=True, value=value, **fields)


def weighted(weights: dict[float, int], at: datetime | None = None, **fields: Any) -> Any:
    """A histogram of buckets, each with what stands for it."""
    told = {
        "count": sum(weights.values()),
        "sum": sum(value * weight for value, weight in weights.items()),
        "min": min(weights),
        "max": max(weights),
    }
    return point(
        at,
        "histogram",
        samples=sorted(weights),
        weights=[weights[value] for value in sorted(weights)],
        **(told | fields),
    )


def median(row: Any) -> float | None:
    return Quantiles(*unpacked(row.quantiles)).quantile(0.5)


def at(minute: float) -> datetime:
    return START + minute * MINUTE


KINDS = {
    "counter": (
        [point(kind="counter", value=value) for value in (1, 2.5, 0)],
        {"count": 3, "sum": 3.5, "min": None, "last": None, "increase": None},
        None,
    ),
    "meter": (
        [point(kind="meter", value=value) for value in (4, -1)],
        {"count": 2, "sum": 3, "max": None, "last": None, "increase": None},
        None,
    ),
    "gauge": (
        [point(at(minute), value=value) for minute, value in ((3, -7), (1, 5), (2, 100))],
        {"count": 3, "sum": 98, "min": -7, "max": 100, "first": None, "last": -7, "last_at": at(3)},
        5,
    ),
    "histogram": (
        [point(kind="histogram", samples=samples) for samples in ([1, 2, 30], [0], [3])],
        {"count": 5, "sum": 36, "min": 0, "max": 30, "last": None, "increase": None},
        2,
    ),
    "histogram of buckets": (
        [
            point(
                kind="histogram", samples=[0, 2, 30], weights=[1, 3, 1],
                count=5, sum=37.5, min=-0.5, max=31,
            ),
            point(kind="histogram", samples=[], weights=[], count=0, sum=0),
            point(
                kind="histogram", samples=[2], weights=[2], count=2, sum=4, min=1.5, max=2.5
            ),
        ],
        {"count": 7, "sum": 41.5, "min": -0.5, "max": 31, "last": None, "increase": None},
        2,
    ),
    "histogram of both": (
        [
            point(kind="histogram", samples=[8, 9, 40]),
            point(
                kind="histogram", samples=[2], weights=[4], count=4, sum=9, min=2, max=3
            ),
        ],
        {"count": 7, "sum": 66, "min": 2, "max": 40},
        2,
    ),
    "summary": (
        [
            point(kind="summary", count=0, sum=0),
            point(kind="summary", count=10, sum=50, min=-1, max=9),
            point(kind="summary", count=5, sum=5, min=1, max=1),
        ],
        {"count": 15, "sum": 55, "min": -1, "max": 9, "last": None, "increase": None},
        None,
    ),
    "summary of nothing": (
        [point(kind="summary", count=0, sum=0)],
        {"count": 0, "sum": 0, "min": None, "max": None},
        None,
    ),
    "cumulative counter": (
        # 10 more, then begun anew and 4 of it, then 3 more.
        [counter(value, at(n)) for n, value in enumerate((100, 110, 4, 7))],
        {
            "count": 4, "sum": None, "min": None, "increase": 17,
            "first": 100, "first_at": at(0), "last": 7, "last_at": at(3),
        },
        None,
    ),
    "cumulative counter seen once": (
        [counter(5)],
        {"count": 1, "increase": 0, "first": 5, "last": 5},
        None,
    ),
}  # fmt: skip


@transactional
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_adds_up_in_its_way(project: Project, kind: str) -> None:
    points, columns, middle = KINDS[kind]
    store(project, *points)
    roll_up()
    for table in LEVELS:
        (row,) = rows(project, table)
        assert {name: getattr(row, name) for name in columns} == columns
        assert median(row) == (None if middle is None else pytest.approx(middle, rel=ACCURACY))
        assert row.people == 0


@transactional
def test_series_are_told_apart_by_kind_node_and_tags(project: Project) -> None:
    told_apart: list[dict[str, Any]] = [
        {},
        {"name": "n"},
        {"kind": "meter"},
        {"kind": "counter"},
        {"kind": "counter", "cumulative": True},
        {"node": ""},
        {"node": "a"},
        {"node": "null"},
        {"tags": b'{"a":1}'},
        {"tags": b'{"a":"1"}'},
        {"tags": b'{"a":1,"b":null}'},
    ]
    for _ in range(2):
        store(project, *(point(value=1, **fields) for fields in told_apart))
    store(project, point(value=1, tags=b'{ "b" : null, "a" : 1 }'))
    roll_up()
    for table in LEVELS:
        found = rows(project, table)
        assert len({bytes(row.series) for row in found if row.name == "m"}) == len(told_apart) - 1
        assert sorted(row.count for row in found) == [2] * (len(told_apart) - 1) + [3]
        assert {(row.node, str(row.tags)) for row in found} == {
            (None, "{}"), ("", "{}"), ("a", "{}"), ("null", "{}"),
            (None, "{'a': 1}"), (None, "{'a': '1'}"), (None, "{'a': 1, 'b': None}"),
        }  # fmt: skip


@transactional
def test_no_level_keeps_tags_that_tell_persons_apart(project: Project) -> None:
    store(
        project,
        *(
            counter(value, at(minute), tags=b'{"user":"%s","os":"a"}' % user)
            for user in (b"alice", b"bob")
            for minute, value in enumerate((10, 17))
        ),
    )
    roll_up()
    for table in LEVELS:
        found = rows(project, table)
        assert [str(row.tags) for row in found] == ["{'os': 'a'}"] * 2
        assert [row.increase for row in found] == [7, 7], "series stay apart"


@transactional
def test_people_are_the_distinct_persons_of_a_series(project: Project) -> None:
    for ago in (2, 3):
        store(project, *(point(hour(ago), value=1, subject=hashed(n % 3)) for n in range(9)))
        store(project, *(point(hour(ago), value=1, name="machine") for _ in range(9)))
    roll_up()
    for table in LEVELS:
        assert {(row.name, row.people) for row in rows(project, table)} == {
            ("m", 3),
            ("machine", 0),
        }


@transactional
def test_values_of_one_moment_count_in_the_order_they_were_sent(project: Project) -> None:
    store(
        project,
        *(counter(value, START) for value in (5, 8, 1, 3)),
        *(point(START, value=n) for n in range(9)),
    )
    roll_up(Level.HOUR)
    grown, gauge = rows(project)
    assert (grown.first, grown.last, grown.increase) == (5, 3, 3 + 1 + 2)
    assert gauge.last == 8


@transactional
@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_slices_of_an_hour_add_up(
    project: Project, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(metric_rollups, "SLICE_SAMPLES", most)
    minutes = [0, 0, 0, 1, 1, 2, 59]
    grows = [3, 5, 9, 2, 6, 6, 7]
    store(
        project,
        *(counter(value, at(minute)) for minute, value in zip(minutes, grows, strict=True)),
        *(point(at(minute), value=minute, subject=hashed(minute)) for minute in minutes),
        *(point(at(minute), "histogram", samples=[minute, 7]) for minute in minutes),
        *(weighted({minute: 2, 90: 1}, at(minute), name="w") for minute in minutes),
        # Just outside.
        point(START - timedelta(microseconds=1), value=1000),
        point(START + HOUR, value=1000),
    )
    roll_up(Level.HOUR)
    grown, gauge, histogram, weighed = rows(project, bucket=START)
    assert (weighed.count, weighed.sum, weighed.max) == (21, 2 * 63 + 7 * 90, 90)
    assert unpacked(weighed.quantiles)[1].tolist() == [6, 4, 2, 2, 7]
    assert (grown.count, grown.first, grown.last) == (7, 3, 7)
    assert grown.increase == (5 - 3) + (9 - 5) + 2 + (6 - 2) + 0 + (7 - 6)
    assert (gauge.count, gauge.sum, gauge.max, gauge.last, gauge.people) == (7, 63, 59, 59, 4)
    assert (histogram.count, histogram.sum, histogram.min) == (14, 63 + 49, 0)
    assert median(histogram) == pytest.approx(7, rel=ACCURACY)


@transactional
def test_a_counter_grows_between_hours_and_days(project: Project) -> None:
    night = midnight(2)
    moments = [night - HOUR, night - MINUTE, night + MINUTE, night + HOUR, night + 2 * HOUR]
    store(
        project, *(counter(n, moment) for n, moment in zip((1, 5, 7, 2, 9), moments, strict=True))
    )
    roll_up()
    assert [row.increase for row in rows(project, MetricHour)] == [4, 0, 0, 0]
    assert [row.increase for row in rows(project, MetricDay)] == [4, 2 + 7]
    # Both days may be of one month, or not.
    assert sum(row.increase for row in rows(project, MetricMonth)) in (4 + 2 + 2 + 7, 4 + 9)


@transactional
def test_too_many_series_are_added_up(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "MOST_SERIES", 2)
    for n, node in enumerate("aaabbcd"):
        store(
            project,
            point(at(n), value=n, node=node, subject=hashed(n)),
            counter(10 + n, at(n), node=node),
            counter(12 + n, at(n), node=node),
        )
    roll_up()
    for table in LEVELS:
        found = rows(project, table)
        others = [row for row in found if row.tags == {"(other)": True}]
        assert [row.node for row in found if row not in others] == ["a", "b"] * 2
        grown, gauge = others
        assert (grown.node, grown.count, grown.increase, grown.last) == (None, 4, 4, None)
        assert (gauge.node, gauge.count, gauge.sum, gauge.min, gauge.max) == (None, 2, 11, 5, 6)
        assert (gauge.last, gauge.last_at, gauge.people) == (6, at(6), 2)
        assert median(gauge) == pytest.approx(5, rel=ACCURACY)


@transactional
def test_series_added_up_while_an_hour_is_read_keep_its_totals(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "MOST_SERIES", 2)
    for name, few in (("SLICE_SAMPLES", 3), ("MOST_HELD", 2)):
        monkeypatch.setattr(metric_rollups, name, few)
    store(project, *(point(at(n), value=n, node=str(n % 7)) for n in range(50)))
    roll_up()
    for table in LEVELS:
        found = rows(project, table)
        assert len(found) == 3
        assert sum(row.count for row in found) == 50
        assert sum(row.sum for row in found) == sum(range(50))
        assert sum(unpacked(row.quantiles)[1].sum() for row in found) == 50
        assert max(row.last for row in found) == 49


@transactional
def test_the_rarest_of_too_many_names_are_counted_together(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "MOST_NAMES", 2)
    for n, name in enumerate("aaabbcd"):
        store(
            project,
            point(at(n), value=n, name=name, node=name, subject=hashed(n)),
            point(at(n), "histogram", samples=[n], name=name),
            counter(10 + n, at(n), name=name),
            counter(12 + n, at(n), name=name),
        )
    roll_up()
    for table in LEVELS:
        found = rows(project, table)
        assert {row.name for row in found} == {"a", "b", "(other)"}
        grown, gauge, histogram = rows(project, table, name="(other)")
        assert all(row.tags == {"(other)": True} for row in (grown, gauge, histogram))
        assert (grown.count, grown.increase, grown.first, grown.last) == (4, 4, None, None)
        assert (gauge.count, gauge.sum, gauge.people, gauge.last) == (2, 11, 2, 6)
        assert (histogram.count, histogram.min, histogram.max) == (2, 5, 6)
        assert sum(row.count for row in found) == 7 * 4


COUNTERS = some.builds(
    lambda hours, minute, node, value: (midnight(3) + hours * HOUR + minute * MINUTE, node, value),
    some.sampled_from([0, 1, 2, 23, 24, 25]),
    some.integers(0, 3),
    some.sampled_from("abcd"),
    some.integers(0, 9).map(float),
)


@pytest.mark.usefixtures("service")
@given(
    measured=some.lists(COUNTERS, min_size=1, max_size=40, unique_by=lambda one: one[:2]),
    most=some.integers(1, 3),
    at_once=some.sampled_from([2, 1000]),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_counters_grew_by_is_never_counted_twice(
    project: Project, measured: list[Any], most: int, at_once: int
) -> None:
    with rolling(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(tallies, "MOST_SERIES", most)
        for name in ("SLICE_SAMPLES", "MOST_HELD"):
            patched.setattr(metric_rollups, name, at_once)
        store(project, *(counter(value, moment, node=node) for moment, node, value in measured))
        roll_up()
        for level in Level:
            grown: dict[datetime, float] = defaultdict(float)
            for node in "abcd":
                of_node = sorted(one[::2] for one in measured if one[1] == node)
                for (before, a), (after, b) in pairwise(of_node):
                    bucket = definitions.starting(level, after)
                    if bucket == definitions.starting(level, before):
                        grown[bucket] += b - a if b >= a else b
            found = rows(project, definitions.TABLES[Kind.POINTS, level])
            assert sum(row.count for row in found) == len(measured)
            for bucket in {row.bucket for row in found}:
                told = sum(row.increase for row in found if row.bucket == bucket)
                assert told <= grown[bucket]
                if len({node for _, node, _ in measured}) <= most:
                    assert told == grown[bucket]


@transactional
def test_what_no_number_holds_is_the_largest_there_is(project: Project) -> None:
    for ago in (2, 3):
        moment = hour(ago)
        store(
            project,
            *(point(moment, value=LARGEST, node="up") for _ in range(3)),
            *(point(moment, value=-LARGEST, node="down") for _ in range(3)),
            *(point(moment, value=sign * LARGEST, node="even") for sign in (1, 1, -1, -1)),
            *(point(moment, "summary", count=2**63 - 1, sum=1, min=0, max=0) for _ in range(2)),
            point(moment, value=5e-324, node="tiny"),
            *(weighted({1: 2**53}, moment, node="many") for _ in range(2_000)),
            *(counter(value, moment) for value in (0, LARGEST, 0, LARGEST)),
        )
    roll_up()
    for table in LEVELS:
        found = {(row.kind, row.node): row for row in rows(project, table)}
        assert found["gauge", "up"].sum == LARGEST
        assert found["gauge", "down"].sum == -LARGEST
        assert found["gauge", "even"].sum == 0
        assert found["gauge", "tiny"].min == 5e-324
        assert found["summary", None].count == 2**63 - 1
        assert found["histogram", "many"].count == 2**63 - 1
        assert unpacked(found["histogram", "many"].quantiles)[1].tolist() == [2**46 - 1]
        assert found["counter", None].increase == LARGEST


@transactional
def test_a_late_point_makes_its_hour_day_and_month_anew(project: Project) -> None:
    store(project, counter(1, DAY_BEFORE), counter(4, DAY_BEFORE + 2 * MINUTE), point(value=1))
    roll_up()
    store(project, counter(9, DAY_BEFORE + MINUTE))
    pk = project_id(project)
    assert marks.complete_until(pk, Kind.POINTS, Level.HOUR) == DAY_BEFORE
    roll_up(Level.HOUR)
    assert [row.increase for row in rows(project, kind="counter")] == [8 + 4]
    assert marks.complete_until(pk, Kind.POINTS, Level.HOUR) > START
    assert marks.complete_until(pk, Kind.POINTS, Level.DAY) <= DAY_BEFORE
    assert [row.increase for row in rows(project, MetricDay, kind="counter")] == [3]
    roll_up()
    for table in LEVELS:
        assert [row.increase for row in rows(project, table, kind="counter")] == [12]


@transactional
@pytest.mark.parametrize("erased", [False, True])
def test_whoever_is_erased_leaves_all_levels(project: Project, erased: bool) -> None:
    store(
        project,
        point(DAY_BEFORE, value=3, subject=hashed(1)),
        point(DAY_BEFORE, value=5, subject=hashed(2)),
        point(DAY_BEFORE, value=4),
        point(DAY_BEFORE - HOUR, value=9, subject=hashed(1), name="hers"),
    )
    roll_up()
    pk = project_id(project)
    asked = timezone.now()
    restrictions.suppress(pk, hashed(1))
    assert marks.clean_until(pk, Kind.POINTS, Level.MONTH) <= timezone.now()
    if erased:
        # As it was before the erasure, so that only its own marks lead to the rows.
        roll_up()
        erase(project, 1)
    roll_up()
    assert marks.clean_until(pk, Kind.POINTS, Level.MONTH) > asked
    for table in LEVELS:
        (row,) = rows(project, table)
        assert (row.name, row.count, row.sum, row.people, row.min) == ("m", 2, 9, 1, 4)


def erase(project: Project, person: int) -> None:
    whom = Person(project_id(project), hashed(person))
    for _ in erasing.erase_points(whom, lambda table, rows: None):
        pass


def midnight(ago: int) -> datetime:
    today = timezone.now().astimezone(UTC)
    return today.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=ago)


# Small whole numbers, which add up to the same in any order.
MOMENTS = some.builds(
    lambda hours, minutes: midnight(3) + hours * HOUR + minutes * MINUTE,
    some.sampled_from([0, 1, 22, 23, 24, 26]),
    some.integers(0, 3),
)
VALUES = some.integers(-1000, 1000).map(float)
GROWN = some.integers(0, 1000).map(float)
OF = {
    "subject": some.one_of(some.none(), some.integers(1, 3).map(hashed)),
    "node": some.sampled_from([None, "a", "b"]),
    "tags": some.sampled_from([b"{}", b'{"a":1}']),
}
POINTS = some.one_of(
    some.builds(point, MOMENTS, some.just("gauge"), value=VALUES, **OF),
    some.builds(point, MOMENTS, some.just("meter"), value=VALUES, **OF),
    some.builds(point, MOMENTS, some.just("counter"), value=GROWN, **OF),
    some.builds(counter, GROWN, MOMENTS, **OF),
    some.builds(counter, GROWN, MOMENTS),
    some.builds(
        point,
        MOMENTS,
        some.just("histogram"),
        samples=some.lists(VALUES, min_size=1, max_size=5),
        **OF,
    ),
    some.builds(
        weighted,
        some.dictionaries(VALUES, some.integers(1, 4), min_size=1, max_size=5),
        MOMENTS,
        **OF,
    ),
    some.builds(
        lambda count, lower, higher, **fields: point(
            kind="summary", count=count, sum=7.0, min=lower, max=higher, **fields
        ),
        some.integers(1, 9),
        some.integers(-9, 0).map(float),
        some.integers(1, 9).map(float),
        at=MOMENTS,
        **OF,
    ),
)
STEPS = some.one_of(
    some.tuples(some.just("store"), some.lists(POINTS, min_size=1, max_size=12)),
    some.tuples(some.just("suppress"), some.integers(1, 3)),
    some.tuples(some.just("erase"), some.integers(1, 3)),
    some.tuples(some.just("roll up"), some.sampled_from([*Level])),
    some.tuples(some.just("keep"), some.integers(0, 3)),
)


@pytest.mark.usefixtures("service")
@given(steps=some.lists(STEPS, max_size=10), most=some.sampled_from([2, 5, 1000]))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_each_level_is_what_adding_up_again_says(
    project: Project, steps: list[tuple[str, Any]], most: int
) -> None:
    with rolling(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(metric_rollups, "SLICE_SAMPLES", most)
        pk, kept = project_id(project), Kept(project, Kind.POINTS)
        for step, what in steps:
            if step == "store":
                store(project, *what)
            elif step == "keep":
                kept.expire(what)
            elif step == "roll up":
                roll_up(what)
            else:
                restrictions.suppress(pk, hashed(what))
                if step == "erase":
                    erase(project, what)
        roll_up()
        assert not DirtyMark.objects.filter(project_id=pk).exists()
        for level in Level:
            expected = by_series(kept.rows(gone=True), level)
            found = {
                key(row, row.bucket): row
                for row in rows(project, definitions.TABLES[Kind.POINTS, level])
            }
            assert found.keys() == expected.keys()
            for series, points in expected.items():
                compare(found[series], points)


def key(one: Any, bucket: datetime) -> tuple[Any, ...]:
    return bucket, one.name, one.kind, one.cumulative, one.node, str(one.tags)


def by_series(points: list[MetricPoint], level: Level) -> dict[tuple[Any, ...], list[MetricPoint]]:
    """Points by bucket and series, in their order."""
    found: dict[tuple[Any, ...], list[MetricPoint]] = defaultdict(list)
    for one in points:
        found[key(one, definitions.starting(level, one.occurred_at))].append(one)
    return found


def compare(row: Any, points: list[MetricPoint]) -> None:
    """Whether a row says what its points do."""
    assert row.people == len({bytes(one.subject) for one in points if one.subject is not None})
    if row.kind == "summary":
        assert row.count == sum(one.count for one in points)
        assert row.sum == 7 * len(points)
        assert row.min == min(one.min for one in points)
        assert row.max == max(one.max for one in points)
        return
    values = [
        value
        for one in points
        for sample, weight in zip(
            one.samples or [one.value], one.weights or repeat(1), strict=False
        )
        for value in [sample] * weight
    ]
    assert row.count == len(values)
    if row.cumulative:
        assert (row.first, row.first_at) == (values[0], points[0].occurred_at)
        assert row.increase == sum(b - a if b >= a else b for a, b in pairwise(values))
        assert row.sum is None
    else:
        assert row.sum == sum(values)
        assert row.increase is None
    if row.cumulative or row.kind == "gauge":
        assert (row.last, row.last_at) == (values[-1], points[-1].occurred_at)
    if row.kind in ("gauge", "histogram"):
        assert (row.min, row.max) == (min(values), max(values))
        quantiles = Quantiles(*unpacked(row.quantiles))
        for share in (0, 0.5, 0.9, 1):
            exact = sorted(values)[math.floor(share * (len(values) - 1))]
            assert quantiles.quantile(share) == pytest.approx(exact, rel=ACCURACY + 1e-9)
    else:
        assert not row.quantiles
