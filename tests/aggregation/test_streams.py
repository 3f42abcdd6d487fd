"""What is cumulative since a start: counted once, in the hour in which it grew."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from aggregation import streams
from aggregation.models import DirtyMark, Level, MetricDay, MetricHour, MetricMonth
from aggregation.quantiles import keys_of, unpacked
from ingest.records import microseconds
from privacy import restrictions
from tests.aggregation.rolling import HOUR, hashed, hour, point, roll_up, rolling, store
from tests.harness import Project
from tests.ingest.traces import project_id

MINUTE = timedelta(minutes=1)
# The first of three hours of one day.
START = hour(30).replace(hour=3)


@pytest.fixture
def in_a_transaction(service: object) -> Iterator[None]:
    with rolling():
        yield


transactional = pytest.mark.usefixtures("in_a_transaction")


def at(minute: float) -> datetime:
    return START + minute * MINUTE


def counter(value: float, minute: float, since: float = 0, **fields: Any) -> Any:
    """A cumulative counter as it was in a minute; it began in another one."""
    started = microseconds(at(since))
    return point(at(minute), "counter", value=value, cumulative=True, started=started, **fields)


def histogram(weights: dict[float, int], minute: float, since: float = 0, **fields: Any) -> Any:
    values = sorted(weights)
    told: dict[str, Any] = {
        "samples": values,
        "weights": [weights[value] for value in values],
        "count": sum(weights.values()),
        "sum": sum(value * weight for value, weight in weights.items()),
        "min": min(weights, default=None),
        "max": max(weights, default=None),
    }
    started = microseconds(at(since))
    return point(at(minute), "histogram", cumulative=True, started=started, **(told | fields))


def rows(project: Project, table: Any = MetricHour, **which: Any) -> list[Any]:
    found = table.objects.filter(project_id=project_id(project), **which)
    return list(found.order_by("bucket", "name", "node"))


def sums(project: Project, table: Any = MetricHour) -> list[float]:
    return [row.sum for row in rows(project, table)]


VALUES = (1, 5, 10, 50, 100, 400, 1000, 9000)
VALUE_OF = dict(zip(keys_of(np.array(VALUES, np.float64)).tolist(), VALUES, strict=True))


def held(row: Any) -> dict[int, int]:
    """How often each of these values is in a row's histogram."""
    keys, counts = unpacked(row.quantiles)
    return {VALUE_OF[key]: n for key, n in zip(keys.tolist(), counts.tolist(), strict=True)}


@transactional
def test_a_counter_grows_from_its_start_on(project: Project) -> None:
    store(project, counter(5, 1), counter(5, 2), counter(8, 3))
    roll_up()
    for table in (MetricHour, MetricDay, MetricMonth):
        (row,) = rows(project, table)
        assert (row.count, row.sum, row.cumulative, row.increase) == (3, 8, False, None)


@transactional
def test_each_hour_has_what_it_grew_by_in_it(project: Project) -> None:
    store(project, *(counter(n, minute) for n, minute in enumerate((1, 30, 59, 61, 90, 121), 1)))
    roll_up()
    assert sums(project) == [3, 2, 1]
    assert sums(project, MetricDay) == [6]


@transactional
def test_a_start_shortly_before_an_hour_is_its_zero(project: Project) -> None:
    store(project, counter(7, 61, since=59))
    roll_up()
    assert sums(project) == [7]


@transactional
def test_who_begins_anew_is_another_stream_though_it_grew_further(project: Project) -> None:
    store(project, counter(5, 10), counter(9, 20, since=15), counter(11, 70, since=15))
    roll_up()
    assert sums(project) == [5 + 9, 2]


@transactional
def test_processes_that_say_nothing_to_tell_them_apart_count_each(project: Project) -> None:
    store(
        project,
        *(counter(minute, minute, since=0) for minute in range(10, 120, 10)),
        *(counter(1000, minute, since=0.5) for minute in range(15, 120, 10)),
    )
    roll_up()
    assert sums(project) == [1000 + 50, 60]


@transactional
def test_who_falls_without_a_new_start_has_begun_anew(project: Project) -> None:
    store(project, counter(50, 10), counter(4, 70))
    roll_up()
    assert sums(project) == [50, 4]


@transactional
def test_what_was_long_before_it_came_is_no_growth(project: Project) -> None:
    store(project, counter(1000, 130, since=-300), counter(1003, 140, since=-300))
    roll_up()
    assert sums(project) == [3]


@transactional
def test_what_a_sender_that_was_heard_counts_for_the_first_time_is_new(project: Project) -> None:
    """Many say one start for all that they will ever count."""
    store(
        project,
        *(counter(1000 + n, 120 + n, since=-300, name="a", node="one") for n in range(5)),
        counter(2, 123, since=-300, name="rare", node="one"),
        counter(2, 124, since=-300, name="rare", node="one"),
        counter(7, 124, since=-300, name="rare", node="another"),
    )
    roll_up()
    found = {(row.name, row.node): row.sum for row in rows(project)}
    assert found == {("a", "one"): 4, ("rare", "one"): 2, ("rare", "another"): 0}


@transactional
def test_what_a_sender_says_at_once_is_heard_at_once(project: Project) -> None:
    """Collectors that look at a host say one start, its boot, and for each thing its own time."""
    for minute in (120, 121):
        store(
            project,
            counter(1000 + minute, minute, since=-300, name="cpu", node="one"),
            counter(2000 + minute, minute + 0.001, since=-300, name="disk", node="one"),
            counter(3000 + minute, minute + 0.05, since=-300, name="net", node="one"),
        )
    roll_up()
    assert sums(project) == [1, 1, 1]


@transactional
def test_what_came_at_one_moment_is_added_up_and_not_what_came_twice(project: Project) -> None:
    """As where tags that told some apart were scrubbed."""
    for minute, grown in ((10, 0), (20, 1), (70, 4)):
        for _ in range(2):
            store(
                project,
                counter(5 + grown, minute, name="c"),
                counter(7 + grown, minute, name="c"),
                histogram({10: 1 + grown}, minute),
                histogram({10: 2, 100: 1}, minute),
            )
    roll_up()
    found = [(row.name, row.sum) for row in rows(project)]
    assert found == [("c", 14), ("m", 140), ("c", 6), ("m", 30)]
    assert [held(row) for row in rows(project, name="m")] == [{10: 4, 100: 1}, {10: 3}]


@transactional
def test_persons_count_by_themselves_and_not_when_they_are_erased(project: Project) -> None:
    one, other = hashed(1), hashed(2)
    store(
        project,
        *(counter(n, n, subject=one) for n in (5, 65)),
        *(counter(2 * n, n, subject=other) for n in (5, 65)),
    )
    roll_up()
    assert [(row.sum, row.people) for row in rows(project)] == [(15, 2), (180, 2)]
    restrictions.suppress(project_id(project), one)
    roll_up()
    assert [(row.sum, row.people) for row in rows(project)] == [(10, 1), (120, 1)]


@transactional
def test_a_late_point_changes_the_hour_behind_it_too(project: Project) -> None:
    store(project, counter(3, 10), counter(9, 70), counter(9, 130))
    roll_up()
    assert sums(project) == [3, 6, 0]
    store(project, counter(8, 55))
    hours = DirtyMark.objects.filter(project_id=project_id(project)).values_list("bucket")
    assert sorted(hours) == [(START,), (START + HOUR,)]
    roll_up()
    assert sums(project) == [8, 1, 0]


@transactional
def test_no_hour_that_is_to_come_is_marked(project: Project) -> None:
    now = hour(0)
    store(project, point(now, "counter", value=1.0, cumulative=True, started=microseconds(now)))
    marked = DirtyMark.objects.filter(project_id=project_id(project)).values_list("bucket")
    # The next one is, shortly before it begins.
    assert set(marked) <= {(now,), (now + HOUR,)}
    store(project, counter(1, 1))
    assert DirtyMark.objects.filter(bucket=START + HOUR).exists()


@transactional
def test_a_histogram_that_is_sent_again_and_again_counts_once(project: Project) -> None:
    store(project, *(histogram({10: 2, 100: 1}, minute) for minute in range(1, 60, 5)))
    store(project, histogram({10: 3, 100: 1, 1000: 4}, 61), histogram({}, 119, name="nothing"))
    roll_up()
    first, second, nothing = rows(project)
    assert (first.count, first.sum, first.min, first.max) == (3, 120, 10, 100)
    assert (second.count, second.sum, second.max) == (5, 10 + 4000, 1000)
    assert (held(first), held(second)) == ({10: 2, 100: 1}, {10: 1, 1000: 4})
    assert (nothing.count, nothing.sum, nothing.min, len(nothing.quantiles)) == (0, 0, None, 0)
    (day,) = rows(project, MetricDay, name="m")
    assert (day.count, held(day)) == (8, {10: 3, 100: 1, 1000: 4})


@transactional
def test_extremes_of_an_hour_are_exact_where_they_are_new(project: Project) -> None:
    buckets = {10.0: 2, 100.0: 2}
    store(project, histogram(buckets, 1, min=8.5, max=130.0))
    store(project, histogram({10: 3, 100: 3}, 61, min=8.5, max=140.0))
    store(project, histogram({10: 3, 100: 4}, 121, min=8.5, max=140.0))
    roll_up()
    assert [(row.min, row.max) for row in rows(project)] == [(8.5, 130), (10, 140), (100, 100)]


@transactional
def test_no_value_is_beyond_the_extremes(project: Project) -> None:
    store(project, histogram({1: 4, 1000: 1}, 1, min=5.0, max=400.0))
    roll_up()
    (row,) = rows(project)
    assert held(row) == {5: 4, 400: 1}


@transactional
def test_buckets_that_became_wider_lose_nothing(project: Project) -> None:
    """Of scale 2 (factors of 1.19) at first, of scale 0 (factors of 2) an hour later."""
    fine = {2 ** ((index + 0.5) / 4): 1 for index in range(-8, 8)}
    wide = {2 ** (index + 0.5): 4 for index in range(-2, 2)}
    store(project, histogram(fine, 1), histogram({**wide, 2**1.5: 9, 2**9.5: 1}, 61))
    roll_up()
    first, second = rows(project)
    assert first.count == 16
    assert second.count == 6
    assert sorted(unpacked(second.quantiles)[1].tolist()) == [1, 5]


@transactional
def test_a_summary_may_be_cumulative(project: Project) -> None:
    told: dict[str, Any] = {"kind": "summary", "cumulative": True, "started": microseconds(START)}
    store(
        project,
        point(at(1), count=2, sum=5.0, min=1.0, max=4.0, **told),
        point(at(59), count=3, sum=6.0, min=1.0, max=4.0, **told),
        point(at(61), count=7, sum=26.0, min=1.0, max=9.0, **told),
    )
    roll_up()
    found = [(row.count, row.sum, row.min, row.max) for row in rows(project)]
    assert found == [(3, 6, 1, 4), (4, 20, None, 9)]


@transactional
def test_deltas_of_a_series_are_added_to_its_streams(project: Project) -> None:
    store(project, counter(5, 1), point(at(2), "counter", value=2))
    roll_up()
    assert sums(project) == [7]


Measured = list[tuple[int, int, float]]


def had(measured: Measured, who: int, since: int, minute: int) -> Counter[float]:
    """What one had measured before a minute, how often."""
    return Counter(
        value for other, moment, value in measured if other == who and since <= moment < minute
    )


def grew(measured: Measured, minutes: list[int], since: int, who: int, number: int) -> Any:
    """What belongs to an hour, by what was measured; None where nothing came in it."""
    here = [minute for minute in minutes if minute // 60 == number]
    if not here:
        return None
    just_before = [minute for minute in minutes if minute // 60 == number - 1]
    first = since if since // 60 >= number - 1 else min(here)
    if just_before:
        first = max(just_before)
    return had(measured, who, since, max(here)) - had(measured, who, since, first)


@pytest.mark.usefixtures("service")
@given(
    # Who measured what in which minute, and who sent in which minute all that it had until then.
    measured=some.lists(
        some.tuples(
            some.integers(0, 2), some.integers(0, 170), some.sampled_from([1.0, 50.0, 9e3])
        ),
        max_size=30,
    ),
    sent=some.sets(some.tuples(some.integers(0, 2), some.integers(1, 175)), min_size=1),
    starts=some.tuples(*[some.integers(-90, 60)] * 3),
    order=some.randoms(use_true_random=False),
    at_once=some.sampled_from([1, 3, 1000]),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_hour_has_what_was_measured_between_what_came(
    project: Project,
    measured: Measured,
    sent: set[tuple[int, int]],
    starts: tuple[int, int, int],
    order: Random,
    at_once: int,
) -> None:
    """In whatever order it comes, and whatever is rolled up in between."""
    sent = {(who, minute) for who, minute in sent if minute >= starts[who]}
    points = []
    for who, minute in sorted(sent):
        until = had(measured, who, starts[who], minute)
        points.append(histogram(until, minute, starts[who], name="h", node=str(who)))
        points.append(counter(until.total(), minute, starts[who], name="c", node=str(who)))
    order.shuffle(points)
    with rolling(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(streams, "MOST_POINTS", at_once)
        for start in range(0, len(points), 5):
            store(project, *points[start : start + 5])
            if order.random() < 0.3:
                roll_up(Level.HOUR)
        roll_up()
        expected = {}
        for who, number in product(range(3), range(3)):
            minutes = [minute for other, minute in sent if other == who]
            found = grew(measured, minutes, starts[who], who, number)
            if found is not None:
                expected[START + number * HOUR, str(who)] = found
        histograms = {(row.bucket, row.node): row for row in rows(project, name="h")}
        counters = {(row.bucket, row.node): row.sum for row in rows(project, name="c")}
        assert {key: held(row) for key, row in histograms.items()} == expected
        totals = {key: weights.total() for key, weights in expected.items()}
        assert {key: row.count for key, row in histograms.items()} == totals
        assert counters == totals
