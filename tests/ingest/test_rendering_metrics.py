"""Stored points as OpenTelemetry's metrics: each kind's form, and how exact its numbers are."""

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    AGGREGATION_TEMPORALITY_DELTA,
)
from opentelemetry.semconv._incubating.attributes import user_attributes
from opentelemetry.semconv.attributes import service_attributes, telemetry_attributes

from ingest.formats import FORMATS
from ingest.forwarding.rendering.histograms import MOST_BOUNDS, MOST_BUCKETS
from ingest.forwarding.rendering.metrics import metrics
from ingest.records import Envelope, MalformedBatch, Point
from tests.ingest.rendering import (
    OCCURRED,
    Rendered,
    as_attribute,
    only_point,
    point,
    point_of,
    points,
    same,
    sent,
)
from tests.ingest.test_decoder_properties import any_item, encoded, fuzz

TIME = OCCURRED * 1000
MICROSECOND = 1000
SUBJECT = bytes(range(16))

finite = st.floats(allow_nan=False, allow_infinity=False)


def temporality(found: Rendered) -> Any:
    return getattr(found.metric, found.metric.WhichOneof("data")).aggregation_temporality


def test_a_counters_increments_are_a_monotonic_sum_of_deltas():
    found = only_point("counter", value=2.5)
    assert found.metric.WhichOneof("data") == "sum"
    assert found.metric.sum.is_monotonic
    assert temporality(found) == AGGREGATION_TEMPORALITY_DELTA
    assert (found.item.as_double, found.item.time_unix_nano) == (2.5, TIME)
    assert found.item.start_time_unix_nano == TIME - MICROSECOND


def test_a_counter_that_is_cumulative_says_since_when_if_it_knows():
    found = only_point("counter", value=7.0, cumulative=True)
    assert found.metric.sum.is_monotonic
    assert temporality(found) == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert found.item.start_time_unix_nano == 0
    since = only_point("counter", value=7.0, cumulative=True, started_at=OCCURRED - 60_000_000)
    assert since.item.start_time_unix_nano == TIME - 60_000_000_000


@pytest.mark.parametrize("kind", ["gauge", "meter"])
def test_gauges_and_meters_are_gauges(kind: str):
    found = only_point(kind, value=-1.5)
    assert found.metric.WhichOneof("data") == "gauge"
    assert (found.item.as_double, found.item.time_unix_nano) == (-1.5, TIME)
    assert found.item.start_time_unix_nano == 0


def test_a_metrics_metadata_tells_what_its_form_does_not():
    assert [
        [(entry.key, entry.value.string_value) for entry in found.metric.metadata]
        for kind in ("counter", "gauge", "meter")
        for found in points(point(kind, value=1.0))
    ] == [[], [], [("client_telemetry.kind", "meter")]]


def test_a_summarys_extremes_are_its_outermost_quantiles():
    found = only_point("summary", count=3, sum=6.5, min=1.0, max=4.0)
    assert found.metric.WhichOneof("data") == "summary"
    assert (found.item.count, found.item.sum) == (3, 6.5)
    assert [(at.quantile, at.value) for at in found.item.quantile_values] == [(0, 1), (1, 4)]
    assert found.item.start_time_unix_nano == TIME - MICROSECOND


def test_a_summary_of_nothing_has_no_quantiles():
    found = only_point("summary", count=0, sum=0.0)
    assert (found.item.count, list(found.item.quantile_values)) == (0, [])


def test_a_summary_with_a_negative_minimum_is_a_histogram_without_buckets():
    """The value of a quantile must not be negative."""
    found = only_point("summary", count=3, sum=-6.5, min=-4.0, max=1.0)
    assert found.metric.WhichOneof("data") == "histogram"
    (entry,) = found.metric.metadata
    assert (entry.key, entry.value.string_value) == ("client_telemetry.kind", "summary")
    item = found.item
    assert (item.count, item.sum, item.min, item.max) == (3, -6.5, -4, 1)
    assert (list(item.bucket_counts), list(item.explicit_bounds)) == ([], [])
    assert temporality(found) == AGGREGATION_TEMPORALITY_DELTA


# Histograms


def test_the_bounds_of_a_histogram_are_its_samples():
    found = only_point("histogram", samples=[3.0, 1.0, 3.0, 0.5])
    assert found.metric.WhichOneof("data") == "histogram"
    assert temporality(found) == AGGREGATION_TEMPORALITY_DELTA
    item = found.item
    assert list(item.explicit_bounds) == [0.5, 1, 3]
    assert list(item.bucket_counts) == [1, 1, 2, 0]
    assert (item.count, item.sum, item.min, item.max) == (4, 7.5, 0.5, 3)
    assert item.start_time_unix_nano == TIME - MICROSECOND


def test_what_was_said_beside_weighted_samples_holds():
    found = only_point(
        "histogram", samples=[1.0, 2.0, 2.0], weights=[5, 1, 2],
        count=8, sum=10.5, min=0.25, max=2.5, cumulative=True, started_at=OCCURRED - 1_000_000,
    )  # fmt: skip
    item = found.item
    assert (list(item.explicit_bounds), list(item.bucket_counts)) == ([1, 2], [5, 3, 0])
    assert (item.count, item.sum, item.min, item.max) == (8, 10.5, 0.25, 2.5)
    assert temporality(found) == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert item.start_time_unix_nano == TIME - 1_000_000_000


def test_a_histogram_of_nothing_has_no_buckets():
    item = only_point("histogram", samples=[], weights=[], count=0, sum=0.0).item
    assert (item.count, item.sum, list(item.bucket_counts)) == (0, 0, [])
    assert not item.HasField("min")
    assert not item.HasField("max")


@pytest.mark.parametrize(
    "samples", [[-1.0, 2.0], [1.7e308, 1.7e308]], ids=["negative", "more than a float holds"]
)
@pytest.mark.parametrize("more", [0, MOST_BOUNDS], ids=["few", "many"])
def test_a_sum_that_a_histogram_may_not_say_is_left_out(samples: list[float], more: int):
    samples = samples + [float(number) for number in range(more)]
    item = only_point("histogram", samples=samples).item
    assert not item.HasField("sum")
    assert (item.min, item.max) == (min(samples), max(samples))


@fuzz
@given(samples=st.lists(finite, min_size=1, max_size=MOST_BOUNDS))
def test_few_samples_can_be_told_from_a_histogram_exactly(samples: list[float]):
    item = only_point("histogram", samples=samples).item
    assert list(item.bucket_counts)[-1] == 0
    told = dict(zip(item.explicit_bounds, item.bucket_counts, strict=False))
    assert told == Counter(samples)
    assert list(item.explicit_bounds) == sorted(told)
    assert item.count == len(samples)


def many(sample: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    """More distinct samples than an exact histogram has bounds."""
    return st.integers(0, 2**32 - 1).flatmap(
        lambda seed: st.lists(sample, max_size=5).map(
            lambda odd: odd + list(np.random.default_rng(seed).lognormal(0, 3, MOST_BOUNDS + 1))
        )
    )


def middles(item: Any) -> list[tuple[float, int]]:
    """The middle of each bucket that has some, in the order of values, and how many."""
    base = 2.0**-item.scale
    found = [
        (sign * 2.0 ** min((buckets.offset + index + 0.5) * base, 1023.99), count)
        for sign, buckets in ((-1, item.negative), (1, item.positive))
        for index, count in enumerate(buckets.bucket_counts)
        if count
    ]
    return sorted([*found, (0.0, item.zero_count)])


@fuzz
@given(samples=many(st.floats(-1e6, 1e6).filter(lambda sample: sample == 0 or abs(sample) > 1e-3)))
def test_many_samples_are_within_a_percent_of_the_truth(samples: list[float]):
    found = only_point("histogram", samples=samples)
    assert found.metric.WhichOneof("data") == "exponential_histogram"
    assert temporality(found) == AGGREGATION_TEMPORALITY_DELTA
    told = [middle for middle, count in middles(found.item) for _ in range(count)]
    for exact, middle in zip(sorted(samples), told, strict=True):
        assert math.isclose(exact, middle, rel_tol=0.01)
    assert (found.item.count, found.item.min, found.item.max) == (
        len(samples), min(samples), max(samples),
    )  # fmt: skip


@fuzz
@given(samples=many(finite))
def test_whatever_the_samples_buckets_are_few_and_none_is_lost(samples: list[float]):
    """The scale is lowered until what lies between them is little, empty or not."""
    weights = [2**place % 1_000_003 for place in range(len(samples))]
    item = only_point("histogram", samples=samples, weights=weights).item
    for buckets, sign in ((item.positive, 1), (item.negative, -1)):
        counts = list(buckets.bucket_counts)
        assert len(counts) <= MOST_BUCKETS
        assert not counts or counts[0] > 0 < counts[-1]
        assert sum(counts) == sum(
            weight for sample, weight in zip(samples, weights, strict=True) if sample * sign > 0
        )
        # Bounds are numbers of 32 bits.
        assert -(2**31) <= buckets.offset < 2**31 - MOST_BUCKETS
    assert item.count == sum(weights)


def test_the_smallest_and_the_largest_float_have_buckets():
    samples = [5e-324, 1.7976931348623157e308, -5e-324, 0.0] + [1.0 + n for n in range(MOST_BOUNDS)]
    item = only_point("histogram", samples=samples).item
    assert (item.scale, item.zero_count) == (0, 1)
    assert (len(item.positive.bucket_counts), len(item.negative.bucket_counts)) == (2099, 1)


def test_a_bucket_has_its_upper_bound_and_not_its_lower():
    """2**n is the upper bound of a bucket at every scale."""
    powers = [2.0**n for n in range(-8, 9)]
    rest = [1.5 + n / 1000 for n in range(MOST_BOUNDS)]
    item = only_point("histogram", samples=powers + rest).item
    assert item.scale == 6
    counts = {item.positive.offset + at: n for at, n in enumerate(item.positive.bucket_counts)}
    assert all(counts[n * 64 - 1] == 1 for n in range(-8, 9))


# Where they are from


def test_each_node_is_a_resource_and_each_name_of_it_a_metric():
    rows = [
        point("gauge", node=node, name=name, value=1.0)
        for node in ("n1", None)
        for name in ("cpu", "memory", "cpu")
    ]
    request = sent(metrics("shop", rows))
    assert [
        [(metric.name, len(metric.gauge.data_points)) for metric in group.scope_metrics[0].metrics]
        for group in request.resource_metrics
    ] == [[("cpu", 2), ("memory", 1)]] * 2
    assert [found.resource for found in points(*rows)[::3]] == [
        {
            service_attributes.SERVICE_NAME: "shop",
            service_attributes.SERVICE_INSTANCE_ID: "n1",
            telemetry_attributes.TELEMETRY_SDK_NAME: "client-telemetry",
        },
        {
            service_attributes.SERVICE_NAME: "shop",
            telemetry_attributes.TELEMETRY_SDK_NAME: "client-telemetry",
        },
    ]
    assert {found.scope for found in points(*rows)} == {"client-telemetry"}


def test_forms_of_one_name_are_metrics_of_their_own():
    rows = [
        point("counter", value=1.0),
        point("counter", value=1.0, cumulative=True),
        point("gauge", value=1.0),
        point("meter", value=1.0),
        point("histogram", samples=[1.0]),
        point("histogram", samples=[float(n) for n in range(MOST_BOUNDS + 1)]),
        point("summary", count=1, sum=1.0, min=1.0, max=1.0),
        point("summary", count=1, sum=-1.0, min=-1.0, max=-1.0),
    ]
    (group,) = sent(metrics("shop", rows)).resource_metrics
    assert [metric.WhichOneof("data") for metric in group.scope_metrics[0].metrics] == [
        "sum", "sum", "gauge", "gauge", "histogram", "exponential_histogram", "summary",
        "histogram",
    ]  # fmt: skip


def test_tags_are_attributes_and_never_pose_as_the_person():
    theirs = dict.fromkeys(("user.id", "enduser.id", "session.id"), "theirs")
    tags = json.dumps(theirs | {"a": 1, "b": True, "c": 0.5, "d": "x", "": 0})
    found = only_point("gauge", value=1.0, subject=SUBJECT, tags=tags)
    assert found.attributes == {
        user_attributes.USER_ID: SUBJECT.hex(),
        **{f"sent.{name}": value for name, value in theirs.items()},
        **{"a": 1, "b": True, "c": 0.5, "d": "x", "sent.": 0},
    }


@pytest.mark.parametrize("name", ["metrics", "snapshot"])
@fuzz
@given(data=st.data())
def test_every_point_that_a_decoder_takes_is_rendered_with_all_it_says(
    name: str, data: st.DataObject
):
    try:
        decoded = FORMATS[name](encoded(data.draw(any_item(name))), Envelope(users_optional=True))
    except MalformedBatch:
        return
    for found in decoded.records:
        assert isinstance(found, Point)
        check(found)


def check(measured: Point) -> None:
    row = point_of(measured)
    (found,) = points(row)
    assert found.item.time_unix_nano == row.occurred_at * 1000
    assert (found.metric.name, found.scope) == (measured.name, "client-telemetry")
    assert found.resource.get("service.instance.id") == measured.node
    ours = {"user.id": row.subject.hex()} if row.subject else {}
    tags = as_attribute(json.loads(measured.tags))
    if "" in tags:
        tags["sent."] = tags.pop("")
    assert same(found.attributes, tags | ours)
    if measured.value is not None:
        assert found.item.as_double == measured.value
    elif measured.samples is not None:
        assert found.item.count == len(measured.samples)
    else:
        assert (found.item.count, found.item.sum) == (measured.count, measured.sum)
