"""OTLP's metrics, whatever is sent: each data point is refused or is one that can be stored."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from ingest.formats.otlp.attributes import OURS
from ingest.formats.otlp.metrics import decode
from ingest.records import DecodedBatch, Envelope, Limits, MalformedBatch, Point
from tests.ingest.otlp import JSON, PROTOBUF, attributes, metrics, written
from tests.ingest.test_decoder_properties import check_properties

NAME_LENGTH = Limits().name_length
COUNTS = some.one_of(some.integers(0, 3), some.sampled_from([2**53, 2**53 + 1, 2**63, 2**64 - 1]))
DOUBLES = some.one_of(some.floats(), some.floats(-100, 100))
TIMES = some.one_of(some.sampled_from([0, 1, 2**63, 2**64 - 1]), some.integers(0, 2**64 - 1))
VALUES = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(-(2**63), 2**63 - 1),
    DOUBLES,
    some.text(max_size=5),
    some.binary(max_size=5),
    some.lists(some.text(max_size=3), max_size=3),
)
NAMES = some.one_of(
    some.sampled_from(["user.id", "enduser.id", "session.id", "service.name", "host.name", ""]),
    some.text(max_size=5),
)
ATTRIBUTES = some.dictionaries(NAMES, VALUES, max_size=4)


def point(**fields: Any) -> Any:
    common = {
        "time_unix_nano": TIMES,
        "start_time_unix_nano": TIMES,
        "attributes": ATTRIBUTES.map(attributes),
        "flags": some.sampled_from([0, 0, 0, 1, 2]),
    }
    return some.fixed_dictionaries(common, optional=fields)


NUMBERS = some.one_of(
    point(as_double=DOUBLES), point(as_int=some.integers(-(2**63), 2**63 - 1)), point()
)
EXTREMES = {"count": COUNTS, "sum": DOUBLES, "min": DOUBLES, "max": DOUBLES}
BUCKETS = some.fixed_dictionaries(
    {"offset": some.integers(-(2**31), 2**31 - 1), "bucket_counts": some.lists(COUNTS, max_size=4)}
)
FORMS: dict[str, Any] = {
    "gauge": NUMBERS,
    "sum": NUMBERS,
    "histogram": point(
        explicit_bounds=some.one_of(
            some.lists(DOUBLES, max_size=4),
            some.lists(some.integers(-9, 9), unique=True).map(sorted),
        ),
        bucket_counts=some.lists(COUNTS, max_size=5),
        **EXTREMES,
    ),
    "exponential_histogram": point(
        scale=some.one_of(some.integers(-(2**31), 2**31 - 1), some.integers(-12, 22)),
        zero_count=COUNTS,
        positive=BUCKETS,
        negative=BUCKETS,
        **EXTREMES,
    ),
    "summary": point(
        quantile_values=some.lists(
            some.fixed_dictionaries(
                {"quantile": some.sampled_from([0.0, 0.5, 1.0]), "value": DOUBLES}
            ),
            max_size=3,
        ),
        count=COUNTS,
        sum=DOUBLES,
    ),
}  # fmt: skip


def consistent(form: str, sent: dict[str, Any]) -> dict[str, Any]:
    """With a count that is the sum of its buckets, as far as a count can be."""
    held = list(sent.get("bucket_counts", []))
    if form == "histogram" and held:
        held = (held + [0] * 9)[: len(sent.get("explicit_bounds", [])) + 1]
        sent = {**sent, "bucket_counts": held}
    if form == "exponential_histogram":
        held = [sent.get("zero_count", 0)]
        for sign in ("positive", "negative"):
            held += sent.get(sign, {}).get("bucket_counts", [])
    return {**sent, "count": min(sum(held), 2**64 - 1)}


@some.composite
def metric(draw: Any) -> Metric:
    form = draw(some.sampled_from([*FORMS]))
    points = draw(some.lists(FORMS[form], max_size=3))
    if "histogram" in form and draw(some.booleans()):
        points = [consistent(form, sent) for sent in points]
    data: dict[str, Any] = {"data_points": points}
    if form not in ("gauge", "summary"):
        data["aggregation_temporality"] = draw(some.sampled_from([0, 1, 2, 2, 9]))
    if form == "sum":
        data["is_monotonic"] = draw(some.booleans())
    told = draw(some.sampled_from([{}, {"client_telemetry.kind": "meter"},
                                   {"client_telemetry.kind": "summary"}]))  # fmt: skip
    name = draw(some.one_of(some.just("m"), some.text(max_size=3)))
    return Metric(name=name, metadata=attributes(told), **{form: data})


def check(batches: list[DecodedBatch], received: int | None = None) -> None:
    """Each item is a point or a refusal, and the points can be stored."""
    for batch in batches:
        places = [one.position for one in batch.records]
        places += [one.index for one in batch.rejections]
        assert sorted(places) == list(range(batch.received))
        for one in batch.records:
            assert isinstance(one, Point)
            check_point(one)
    assert received is None or sum(batch.received for batch in batches) == received


def check_point(one: Point) -> None:
    check_properties(one.tags)
    assert 0 < len(one.name) <= NAME_LENGTH
    assert not {"user.id", "enduser.id", "session.id"} & json.loads(one.tags).keys()
    numbers = [one.value, one.sum, one.min, one.max, *(one.samples or [])]
    assert all(math.isfinite(number) for number in numbers if number is not None)
    assert (one.value is None) == (one.kind in ("histogram", "summary"))
    assert (one.samples is None) == (one.weights is None) == (one.kind != "histogram")
    assert one.count is None or 0 <= one.count <= 2**53
    if one.min is not None and one.max is not None:
        assert one.min <= one.max
    if one.started_at is not None:
        assert one.cumulative
        assert one.occurred_at is None or one.started_at <= one.occurred_at
    if one.samples is not None and one.weights is not None:
        assert one.samples == sorted(set(one.samples))
        assert all(type(weight) is int and weight > 0 for weight in one.weights)
        assert sum(one.weights) == one.count
        assert one.started_at is not None or not one.cumulative
        if one.samples and not one.cumulative:
            assert one.min is not None
            assert one.max is not None
            assert one.min <= one.samples[0] <= one.samples[-1] <= one.max


def batches_of(body: bytes, encoding: str) -> list[DecodedBatch]:
    try:
        return list(decode(body, encoding, Envelope()))
    except MalformedBatch:
        return []


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
@given(
    sent=some.lists(metric(), max_size=3),
    resource=some.one_of(ATTRIBUTES, some.just({"telemetry.sdk.name": OURS})),
)
@settings(max_examples=150)
def test_whatever_a_metric_says_each_point_is_taken_or_refused(
    encoding: str, sent: list[Metric], resource: dict[str, Any]
) -> None:
    received = sum(len(getattr(one, one.WhichOneof("data") or "gauge").data_points) for one in sent)
    request = metrics(*sent, resource=resource)
    check(list(decode(written(request, encoding), encoding, Envelope())), received)


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
@given(sent=some.lists(metric(), min_size=1, max_size=3), data=some.data())
def test_whatever_became_of_a_request_on_its_way_is_refused_or_read(
    encoding: str, sent: list[Metric], data: Any
) -> None:
    body = bytearray(written(metrics(*sent), encoding))
    for _ in range(data.draw(some.integers(1, 3))):
        body[data.draw(some.integers(0, len(body) - 1))] = data.draw(some.integers(0, 255))
    check(batches_of(bytes(body), encoding))


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
@given(some.binary(max_size=200))
def test_any_bytes_are_refused_or_read(encoding: str, body: bytes) -> None:
    check(batches_of(body, encoding))
