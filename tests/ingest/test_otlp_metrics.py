"""Metrics of OTLP: what their data points become, and what is refused of them. Pure."""

import json
import math
import resource
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, Metric, NumberDataPoint

from ingest.formats.otlp import frames
from ingest.formats.otlp.attributes import MOST_KEPT, OURS
from ingest.formats.otlp.metrics import decode
from ingest.records import DecodedBatch, Envelope, Limits, MalformedBatch, Point, Rejection
from tests.ingest.otlp import JSON, PROTOBUF, TIME, attributes, metrics, written

every_encoding = pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
DELTA, CUMULATIVE = 1, 2
START = TIME - 60 * 10**9
AT = datetime(2026, 11, 20, 10, 30, 0, 123456, UTC)
SINCE = AT - timedelta(minutes=1)
INFINITE = [math.nan, math.inf, -math.inf]
# A resource of our own exports.
OWN = {"telemetry.sdk.name": OURS, "service.name": "project"}


def decoded(body: Any, encoding: str = PROTOBUF, **envelope: Any) -> list[DecodedBatch]:
    """The batches of a request, or of a body."""
    content = body if isinstance(body, bytes) else written(body, encoding)
    return list(decode(content, encoding, Envelope(**envelope)))


def only(
    sent: Metric, encoding: str = PROTOBUF, resource: Any = None, scope: str = "", **envelope: Any
) -> Point:
    """What a metric's only data point becomes."""
    request = metrics(sent, resource=resource, scope=scope)
    (batch,) = decoded(request, encoding, **envelope)
    assert batch.rejections == []
    (point,) = batch.records
    assert isinstance(point, Point)
    return point


def refused(sent: Metric, encoding: str = PROTOBUF, **request: Any) -> Rejection:
    """Why a metric's only data point is not taken; its neighbours are."""
    (batch,) = decoded(metrics(gauge(1.0), sent, gauge(2.0), **request), encoding)
    assert [good.position for good in batch.records] == [0, 2]
    (rejection,) = batch.rejections
    assert rejection.index == 1
    return rejection


def at(own: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A data point, a minute after its start unless told otherwise."""
    return {
        "time_unix_nano": TIME,
        "start_time_unix_nano": START,
        "attributes": attributes(own or {}),
        **fields,
    }


def number(value: float, **fields: Any) -> dict[str, Any]:
    return at(**{"as_int" if isinstance(value, int) else "as_double": value}, **fields)


def gauge(value: float, **fields: Any) -> Metric:
    return Metric(name="m", gauge={"data_points": [number(value, **fields)]})


def added(value: float, temporality: int, monotonic: bool, **fields: Any) -> Metric:
    return Metric(
        name="m",
        sum={
            "data_points": [number(value, **fields)],
            "aggregation_temporality": temporality,
            "is_monotonic": monotonic,
        },
    )


def histogram(
    bounds: list[float], counts: list[int], temporality: int = DELTA, **fields: Any
) -> Metric:
    whole = {"explicit_bounds": bounds, "bucket_counts": counts, "count": sum(counts), **fields}
    data = {"data_points": [at(**whole)], "aggregation_temporality": temporality}
    return Metric(name="m", histogram=data)


def exponential(scale: int, temporality: int = DELTA, **fields: Any) -> Metric:
    held = [*fields.get("positive", {}).get("bucket_counts", []), fields.get("zero_count", 0)]
    held += fields.get("negative", {}).get("bucket_counts", [])
    whole = {"scale": scale, "count": sum(held), **fields}
    data = {"data_points": [at(**whole)], "aggregation_temporality": temporality}
    return Metric(name="m", exponential_histogram=data)


def summary(quantiles: dict[float, float], **fields: Any) -> Metric:
    values = [{"quantile": quantile, "value": value} for quantile, value in quantiles.items()]
    return Metric(name="m", summary={"data_points": [at(quantile_values=values, **fields)]})


def own(kind: str, sent: Metric) -> Metric:
    """As our own exports say what has no form of its own."""
    sent.metadata.extend(attributes({"client_telemetry.kind": kind}))
    return sent


# --- the mapping ---


@every_encoding
@pytest.mark.parametrize(
    ("sent", "kind", "cumulative", "value"),
    [
        (gauge(-1.5), "gauge", False, -1.5),
        (gauge(7), "gauge", False, 7.0),
        (added(3, DELTA, monotonic=True), "counter", False, 3.0),
        (added(3, CUMULATIVE, monotonic=True), "counter", True, 3.0),
        (added(-3, CUMULATIVE, monotonic=False), "gauge", False, -3.0),
        (added(-3, DELTA, monotonic=False), "meter", False, -3.0),
    ],
)
def test_numbers_become_what_their_form_says(
    encoding: str, sent: Metric, kind: str, cumulative: bool, value: float
) -> None:
    assert only(sent, encoding) == Point(
        0, 0, AT, "m", kind, None, None, b"{}", cumulative, value,
        started_at=SINCE if cumulative else None,
    )  # fmt: skip


@every_encoding
def test_a_histogram_is_weighted_samples(encoding: str) -> None:
    sent = histogram(
        [0, 5, 16, 64], [1, 2, 0, 3, 1], sum=250.5, min=0.0, max=100.0, own={"route": "/"}
    )
    assert only(sent, encoding) == Point(
        0, 0, AT, "m", "histogram", None, None, b'{"route":"/"}', False, None,
        [0.0, 2.5, 32.0, 64.0], 7, 250.5, 0.0, 100.0, [1, 2, 3, 1],
    )  # fmt: skip


@every_encoding
def test_an_exponential_histogram_is_weighted_samples(encoding: str) -> None:
    sent = exponential(
        0, CUMULATIVE, sum=9.5, min=-3.0, max=7.5, zero_count=4,
        positive={"offset": 1, "bucket_counts": [2, 0]},
        negative={"offset": -1, "bucket_counts": [1, 3]},
    )  # fmt: skip
    root = math.sqrt(2)
    found = only(sent, encoding)
    assert found.samples == pytest.approx([-root, -root / 2, 0, 2 * root])
    found.samples = None
    assert found == Point(
        0, 0, AT, "m", "histogram", None, None, b"{}", True, None,
        None, 10, 9.5, -3.0, 7.5, [3, 1, 4, 2], SINCE,
    )  # fmt: skip


@every_encoding
def test_a_summary_keeps_its_extremes_and_is_cumulative(encoding: str) -> None:
    sent = summary({0: 1.5, 0.5: 3, 0.99: 8, 1: 9}, count=12, sum=40.5)
    assert only(sent, encoding) == Point(
        0, 0, AT, "m", "summary", None, None, b"{}", True,
        count=12, sum=40.5, min=1.5, max=9.0, started_at=SINCE,
    )  # fmt: skip


@pytest.mark.parametrize("quantiles", [{}, {0.5: 3}, {0: math.nan, 1: math.nan}, {1: 9}])
def test_a_summary_needs_no_quantiles(quantiles: dict[float, float]) -> None:
    found = only(summary(quantiles, count=1, sum=3.0, start_time_unix_nano=0))
    assert (found.count, found.sum, found.min, found.max) == (1, 3.0, None, None)
    assert (found.cumulative, found.started_at) == (False, None)


def test_a_point_without_a_time_has_none() -> None:
    found = only(added(1, CUMULATIVE, True, time_unix_nano=0, start_time_unix_nano=0))
    assert (found.occurred_at, found.cumulative, found.started_at) == (None, True, None)


@every_encoding
def test_attributes_become_tags(encoding: str) -> None:
    sent = gauge(
        1,
        own={
            "route": "/", "n": 3, "ratio": 0.5, "on": True, "none": None, "raw": b"\xff",
            "list": ["a", 1], "object": {"b": [None]}, "session.id": "s", "user.id": "u",
        },
    )  # fmt: skip
    resource = {"service.name": "shop", "service.version": "1", "process.pid": 12, "user.id": "v"}
    found = only(sent, encoding, resource, "shop.cart")
    assert json.loads(found.tags) == {
        "route": "/", "n": 3, "ratio": 0.5, "on": True, "raw": "/w==",
        "list": '["a",1]', "object": '{"b":[null]}',
        "service.name": "shop", "otel.scope.name": "shop.cart",
    }  # fmt: skip
    assert found.user_id == "u"


def test_a_series_is_written_in_one_way() -> None:
    one, other = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert only(gauge(1, own=one)).tags == only(gauge(1, own=other)).tags


@pytest.mark.parametrize(
    ("resource", "node"),
    [
        ({}, None),
        ({"host.name": "h"}, "h"),
        ({"host.name": "h", "service.instance.id": "i"}, "i"),
        ({"host.name": "h", "service.instance.id": ""}, "h"),
        ({"service.instance.id": 12}, "12"),
    ],
)
def test_the_node_is_the_instance_or_the_host(resource: dict[str, Any], node: str | None) -> None:
    assert only(gauge(1), resource=resource).node == node


@pytest.mark.parametrize(
    ("own", "resource", "user_id"),
    [
        ({"enduser.id": "b"}, {"user.id": "c"}, "b"),
        ({}, {"enduser.id": "d"}, "d"),
        ({}, {}, "header"),
    ],
)
def test_the_user_is_the_points_then_the_resources_then_the_headers(
    own: dict[str, Any], resource: dict[str, Any], user_id: str
) -> None:
    found = only(gauge(1, own=own), resource=resource, user_id="header")
    assert (found.user_id, found.tags) == (user_id, b"{}")


# --- histograms ---


@pytest.mark.parametrize(
    ("bounds", "counts", "samples"),
    [
        ([2.0, 8.0], [1, 1, 1], [1, 4, 8]),
        ([-8.0, -2.0, 0.0, 4.0], [1, 1, 1, 1, 1], [-8, -4, -1, 2, 4]),
        ([-2.0, 4.0], [1, 1, 1], [-2, 1, 4]),
        ([3.0], [0, 2], [3]),
    ],
)
def test_what_stands_for_a_bucket_is_in_it(
    bounds: list[float], counts: list[int], samples: list[float]
) -> None:
    assert only(histogram(bounds, counts)).samples == pytest.approx(samples)


def test_no_sample_of_deltas_is_beyond_the_extremes() -> None:
    found = only(histogram([1.0, 100.0], [1, 5, 1], min=0.9, max=5.0, sum=20.0))
    assert (found.samples, found.weights) == ([0.9, 5.0], [1, 6])


def test_cumulative_buckets_stay_the_same_whatever_the_extremes() -> None:
    found = only(histogram([1.0, 100.0], [1, 5, 1], CUMULATIVE, min=0.9, max=5.0, sum=20.0))
    assert (found.samples, found.weights) == ([0.5, 10.0, 100.0], [1, 5, 1])
    assert (found.min, found.max, found.started_at) == (0.9, 5.0, SINCE)


def test_what_isn_t_said_of_a_histogram_follows_from_its_buckets() -> None:
    found = only(histogram([4.0, 9.0], [0, 3, 1]))
    assert (found.count, found.sum, found.min, found.max) == (4, 27.0, 6.0, 9.0)
    for sign, bounds in ((1, [1e307, 1e308]), (-1, [-1e308, -1e307])):
        assert only(histogram(bounds, [2**50, 0, 2**52])).sum == sign * sys.float_info.max


def test_a_histogram_without_buckets_is_its_mean() -> None:
    for counts in ([], [4]):
        found = only(histogram([], counts, count=4, sum=10.0, min=1.0, max=5.0))
        assert (found.samples, found.weights) == ([2.5], [4])
        assert (found.count, found.sum, found.min, found.max) == (4, 10.0, 1.0, 5.0)


def test_a_histogram_of_nothing_is_one() -> None:
    for sent in (histogram([1.0], [0, 0]), exponential(3), histogram([], [], count=0)):
        found = only(sent)
        assert (found.samples, found.weights, found.count, found.sum) == ([], [], 0, 0)
        assert (found.min, found.max) == (None, None)


def test_bounds_of_our_own_exports_are_samples() -> None:
    sent = histogram([1.0, 2.5, 40.0], [2, 1, 1, 0], sum=44.5, min=1.0, max=40.0)
    found = only(sent, resource=OWN)
    assert (found.samples, found.weights, found.tags) == ([1.0, 2.5, 40.0], [2, 1, 1], b"{}")


def test_our_own_exports_say_what_has_no_form() -> None:
    assert only(own("meter", gauge(-2.5)), resource=OWN).kind == "meter"
    sent = histogram([], [], count=3, sum=-4.0, min=-2.0, max=0.5)
    found = only(own("summary", sent), resource=OWN)
    assert (found.kind, found.samples) == ("summary", None)
    assert (found.count, found.sum, found.min, found.max) == (3, -4.0, -2.0, 0.5)
    # Only what is meant, and only of ours.
    assert only(own("histogram", gauge(1)), resource=OWN).kind == "gauge"
    assert only(own("meter", gauge(1))).kind == "gauge"


def test_what_our_own_exports_say_holds_for_the_form_they_give_it_alone() -> None:
    sent = own("summary", exponential(0, zero_count=1))
    assert only(sent, resource=OWN).kind == "histogram"
    sent = own("meter", added(3, CUMULATIVE, monotonic=False))
    assert only(sent, resource=OWN).kind == "gauge"


def test_summaries_of_our_own_exports_may_be_deltas() -> None:
    moment = summary({0: 1, 1: 2}, count=2, sum=3.0, start_time_unix_nano=TIME - 1000)
    assert only(moment, resource=OWN).cumulative is False
    assert only(moment).cumulative is True
    assert only(summary({}, count=2, sum=3.0), resource=OWN).started_at == SINCE


EXACT = some.lists(some.floats(1e-9, 1e9), min_size=1, max_size=30)


@given(samples=EXACT, scale=some.integers(-2, 12))
def test_an_exponential_buckets_middle_is_as_near_as_its_scale_says(
    samples: list[float], scale: int
) -> None:
    base = 2 ** (2**-scale)
    indexes = [math.ceil(math.log2(sample) * 2**scale) - 1 for sample in samples]
    if max(indexes) - min(indexes) > 5000:
        return
    counts = [0] * (max(indexes) - min(indexes) + 1)
    for index in indexes:
        counts[index - min(indexes)] += 1
    sent = exponential(scale, positive={"offset": min(indexes), "bucket_counts": counts})
    (batch,) = decoded(metrics(sent), limits=Limits(event_bytes=10**6))
    (found,) = batch.records
    assert isinstance(found, Point)
    held = [s for s, n in zip(found.samples or [], found.weights or [], strict=True)
            for _ in range(n)]  # fmt: skip
    for sample, stands in zip(sorted(samples), held, strict=True):
        assert stands == pytest.approx(sample, rel=math.sqrt(base) - 1 + 1e-9)


# --- refusals ---


@every_encoding
@pytest.mark.parametrize(
    ("sent", "code", "field"),
    [
        *((gauge(value), "number_out_of_range", "value") for value in INFINITE),
        (Metric(name="m", gauge={"data_points": [at()]}), "missing_field", "value"),
        (gauge(1, flags=1), "no_value", None),
        (histogram([1.0], [0, 0], flags=1), "no_value", None),
        (added(-1, DELTA, True), "invalid_value", None),
        (added(-1, CUMULATIVE, True), "invalid_value", None),
        (added(1, 0, True), "invalid_temporality", "aggregation_temporality"),
        (added(1, 9, False), "invalid_temporality", "aggregation_temporality"),
        (histogram([1.0], [1, 1], 0), "invalid_temporality", "aggregation_temporality"),
        (
            histogram([1.0], [1, 1], CUMULATIVE, start_time_unix_nano=0),
            "missing_field", "start_time_unix_nano",
        ),
        (
            added(1, CUMULATIVE, True, start_time_unix_nano=TIME + 10_000),
            "invalid_timestamp", "start_time_unix_nano",
        ),
        (histogram([1.0, 2.0], [1, 1]), "invalid_value", "bucket_counts"),
        (histogram([1.0], []), "invalid_value", "bucket_counts"),
        (histogram([2.0, 1.0], [1, 1, 1]), "invalid_value", "explicit_bounds"),
        (histogram([1.0, 1.0], [1, 1, 1]), "invalid_value", "explicit_bounds"),
        (histogram([1.0, math.inf], [1, 1, 1]), "invalid_value", "explicit_bounds"),
        (histogram([math.nan], [1, 1]), "invalid_value", "explicit_bounds"),
        (histogram([1.0], [1, 1], count=3), "invalid_value", "count"),
        (histogram([1.0], [0, 2**53 + 1]), "invalid_value", "count"),
        (histogram([1.0], [0, 2**64 - 1]), "invalid_value", "count"),
        (histogram([], [], count=2**64 - 1), "invalid_value", "count"),
        (histogram([1.0], [1, 1], min=3.0, max=2.0), "invalid_value", "min"),
        *((histogram([1.0], [1, 1], sum=n), "number_out_of_range", "sum") for n in INFINITE),
        *((histogram([1.0], [1, 1], max=n), "number_out_of_range", "max") for n in INFINITE),
        (exponential(0, count=3), "invalid_value", "count"),
        (exponential(21, zero_count=1), "invalid_value", "scale"),
        (exponential(-(2**31), zero_count=1), "invalid_value", "scale"),
        (exponential(0, zero_count=2**60), "invalid_value", "count"),
        (summary({0: 2, 1: 1}, count=2, sum=3.0), "invalid_value", "min"),
        (summary({}, count=2, sum=math.nan), "number_out_of_range", "sum"),
        (summary({}, count=2**60, sum=1.0), "invalid_value", "count"),
        (gauge(1, own={str(n): n for n in range(51)}), "too_many_tags", None),
        (gauge(1, own={"a": math.nan}), "number_out_of_range", None),
        (gauge(1, own={"a": "\0"}), "invalid_character", None),
        (gauge(1, own={"a": "x" * 40_000}), "event_too_large", None),
        (Metric(gauge={"data_points": [number(1)]}), "missing_field", "name"),
        (Metric(name="x" * 201, gauge={"data_points": [number(1)]}), "too_long", "name"),
        (Metric(name="\0", gauge={"data_points": [number(1)]}), "invalid_character", None),
    ],
)  # fmt: skip
def test_a_point_is_refused_alone(
    encoding: str, sent: Metric, code: str, field: str | None
) -> None:
    found = refused(sent, encoding)
    assert (found.code, found.field) == (code, field)


def test_buckets_and_tags_together_are_bounded() -> None:
    assert only(exponential(0, zero_count=1, positive={"bucket_counts": [1] * 1024})).samples
    wide = exponential(5, positive={"offset": -2000, "bucket_counts": [1] * 2100})
    assert refused(wide).code == "event_too_large"


def test_empty_buckets_take_no_room() -> None:
    sparse = exponential(0, positive={"bucket_counts": [1, *[0] * 4000, 1]})
    assert only(sparse).weights == [1, 1]


def test_quantiles_are_bounded() -> None:
    assert refused(summary({n / 2048: 1.0 for n in range(2049)})).code == "event_too_large"


def test_a_request_has_so_many_buckets_in_all_whatever_becomes_of_them() -> None:
    """It takes long to see that they don't add up."""
    points = [at(positive={"bucket_counts": [1] * 2000}, count=1)] * 350
    data = {"data_points": points, "aggregation_temporality": DELTA}
    batches = decoded(metrics(*[Metric(name="m", exponential_histogram=data)] * 3))
    codes = [rejection.code for batch in batches for rejection in batch.rejections]
    assert len(codes) == 1050
    assert codes.count("invalid_value") == MOST_KEPT // (16 * 2000)
    assert codes[-1] == "too_complex"


@pytest.mark.parametrize("offset", [-(2**31), 2**31 - 1])
@pytest.mark.parametrize("scale", [-10, 20])
def test_buckets_beyond_all_floats_are_the_last_ones(offset: int, scale: int) -> None:
    found = only(exponential(scale, positive={"offset": offset, "bucket_counts": [1]}))
    (sample,) = found.samples or []
    assert math.isfinite(sample)
    assert sample > 0


# --- requests ---


def test_each_data_point_is_an_item() -> None:
    series = Metric(name="m", gauge={"data_points": [number(n) for n in range(3)]})
    bad = Metric(name="", sum={"data_points": [number(1), number(2)]})
    nothing = [Metric(name="none"), Metric(name="empty", gauge={})]
    (batch,) = decoded(metrics(series, bad, *nothing, gauge(9)))
    assert [point.position for point in batch.records] == [0, 1, 2, 5]
    assert [rejection.index for rejection in batch.rejections] == [3, 4]
    assert batch.received == 6


def test_a_metric_that_can_t_be_read_is_one_item() -> None:
    request = metrics(gauge(1), gauge(2)).SerializeToString()
    broken = request.replace(b"m", b"\xff", 1)
    (batch,) = decoded(broken)
    assert ([point.position for point in batch.records], batch.received) == ([1], 2)
    (rejection,) = batch.rejections
    assert (rejection.index, rejection.code) == (0, "malformed_protobuf")


def test_a_metric_of_a_megabyte_is_read_and_none_larger() -> None:
    long = {"a": "x" * 1000}
    several = [number(n, own=long) for n in range(900)]
    (batch,) = decoded(metrics(Metric(name="m", gauge={"data_points": several})))
    assert len(batch.records) == 900
    (batch,) = decoded(metrics(Metric(name="m", gauge={"data_points": several * 2})))
    (rejection,) = batch.rejections
    assert rejection.code == "event_too_large"


def test_nothing_is_held_of_a_metric_that_was_read() -> None:
    """Parsed, these are forty times as large."""
    point = NumberDataPoint(time_unix_nano=TIME, as_int=1, exemplars=[Exemplar()] * 500_000)
    whole = metrics(*[Metric(name="m", gauge={"data_points": [point]})] * 8)
    body = whole.SerializeToString()
    del point, whole
    before = resident()
    batches = decode(body, PROTOBUF, Envelope())
    assert len(next(batches).records) == 8
    assert resident() - before < 150 * 1024**2


def resident() -> int:
    """Bytes of this process' memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_large_request_is_several_batches() -> None:
    series = Metric(name="m", gauge={"data_points": [number(n) for n in range(2500)]})
    batches = decoded(metrics(series))
    assert [len(batch.records) for batch in batches] == [1000, 1000, 500]
    assert all(batch.named_by_content for batch in batches)
    size = len(metrics(series).SerializeToString())
    assert sum(batch.body_bytes or 0 for batch in batches) == pytest.approx(size, rel=0.1)


def test_too_many_points_are_refused_before_any_is_taken() -> None:
    several = [number(1)] * (frames.MOST_ITEMS // 4 + 1)
    sent = [Metric(name="m", gauge={"data_points": several})] * 4
    with pytest.raises(MalformedBatch) as caught:
        next(decode(written(metrics(*sent)), PROTOBUF, Envelope()))
    assert caught.value.code == "too_many_events"


@every_encoding
def test_a_resource_that_is_wrong_is_so_for_all_its_points(encoding: str) -> None:
    request = metrics(
        Metric(name="m", gauge={"data_points": [number(1), number(2)]}), resource={"a": math.inf}
    )
    (batch,) = decoded(request, encoding)
    assert batch.records == []
    assert [rejection.code for rejection in batch.rejections] == ["number_out_of_range"] * 2


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
def test_a_request_of_nothing_has_no_batches(encoding: str) -> None:
    assert decoded(ExportMetricsServiceRequest(), encoding) == []
