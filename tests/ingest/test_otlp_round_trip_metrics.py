"""What our exporter sends of measurements to our receiver arrives as exact as it can be."""

import json
import math
from collections import Counter
from datetime import timedelta

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from ingest.formats import FORMATS
from ingest.formats.otlp.metrics import decode
from ingest.forwarding.rendering.encoding import encode
from ingest.forwarding.rendering.histograms import MOST_BOUNDS
from ingest.forwarding.rendering.metrics import metrics
from ingest.forwarding.rendering.rows import PointRow
from ingest.models import Project as Row
from ingest.records import EPOCH, Envelope, MalformedBatch, Point, microseconds
from privacy.subjects import Pseudonyms
from tests.harness import Project, Service
from tests.ingest.rendering import OCCURRED, PROJECT, as_attribute, point, point_of, same
from tests.ingest.round_trips import MICROSECONDS, another_project, both_encodings, export, rows_of
from tests.ingest.sending import accepted, send
from tests.ingest.test_decoder_properties import any_item, encoded, fuzz

COLUMNS = (
    f"{MICROSECONDS}, stored.name, kind, subject, node, tags::text, cumulative, value, samples,"
    " weights, count, sum, min, max, NULL"
)


def measured(encoding: str, *rows: PointRow) -> list[Point]:
    """What our receiver makes of the measurements that our exporter sends."""
    body, content_type = encode(metrics(PROJECT, rows), encoding)
    batches = [*decode(body, content_type, Envelope(users_optional=True))]
    assert [rejection for batch in batches for rejection in batch.rejections] == []
    return [found for batch in batches for found in batch.records]


@both_encodings
@pytest.mark.parametrize("name", ["metrics", "snapshot"])
@fuzz
@given(data=st.data())
def test_every_measurement_arrives_with_all_it_says(encoding: str, name: str, data: st.DataObject):
    try:
        decoded = FORMATS[name](encoded(data.draw(any_item(name))), Envelope(users_optional=True))
    except MalformedBatch:
        return
    for found in decoded.records:
        row = point_of(found)
        (arrived,) = measured(encoding, row)
        check_point(row, arrived)


def check_point(row: PointRow, arrived: Point) -> None:
    assert arrived.occurred_at is not None
    assert microseconds(arrived.occurred_at) == row.occurred_at
    assert arrived.user_id == (row.subject and row.subject.hex())
    for field in ("name", "kind", "node", "cumulative", "value"):
        assert getattr(arrived, field) == getattr(row, field), field
    if row.kind == "histogram":
        assert row.samples is not None
        assert distribution(arrived) == Counter(row.samples)
    elif row.kind == "summary":
        for field in ("count", "sum", "min", "max"):
            assert getattr(arrived, field) == getattr(row, field), field
    expected = as_attribute(json.loads(row.tags))
    if "" in expected:
        expected["sent."] = expected.pop("")
    assert same(json.loads(arrived.tags), expected)


def distribution(arrived: Point) -> dict[float, int]:
    assert arrived.samples is not None
    assert arrived.weights is not None
    return dict(zip(arrived.samples, arrived.weights, strict=True))


@both_encodings
@pytest.mark.parametrize(
    "row",
    [
        point("counter", value=7.0, cumulative=True, started_at=OCCURRED - 60_000_000),
        point("meter", value=-1.5),
        point("summary", count=2, sum=-1.0, min=-2.0, max=1.0),
        point("summary", count=0, sum=0.0),
    ],
    ids=lambda row: row.kind,
)
def test_a_kind_that_its_form_does_not_tell_arrives(encoding: str, row: PointRow):
    (arrived,) = measured(encoding, row)
    check_point(row, arrived)
    since = row.started_at and EPOCH + timedelta(microseconds=row.started_at)
    assert arrived.started_at == since


@both_encodings
@pytest.mark.parametrize("cumulative", [False, True])
def test_weighted_samples_arrive(encoding: str, cumulative: bool):
    since = OCCURRED - 60_000_000 if cumulative else None
    row = point(
        "histogram", samples=[-1.0, 0.0, 2.5], weights=[1, 2, 3], cumulative=cumulative,
        count=6, sum=6.25, min=-1.25, max=2.75, started_at=since,
    )  # fmt: skip
    (arrived,) = measured(encoding, row)
    assert distribution(arrived) == {-1.0: 1, 0.0: 2, 2.5: 3}
    assert (arrived.count, arrived.min, arrived.max) == (6, -1.25, 2.75)
    assert (arrived.kind, arrived.cumulative) == ("histogram", cumulative)


@both_encodings
def test_many_samples_arrive_within_a_percent(encoding: str):
    samples = [1.03**number for number in range(-MOST_BOUNDS, MOST_BOUNDS)] + [0.0, -5.0]
    (arrived,) = measured(encoding, point("histogram", samples=samples))
    told = [sample for sample, weight in distribution(arrived).items() for _ in range(weight)]
    for exact, found in zip(sorted(samples), sorted(told), strict=True):
        assert math.isclose(exact, found, rel_tol=0.01)
    assert (arrived.count, arrived.min, arrived.max) == (len(samples), -5, max(samples))


@both_encodings
def test_stored_measurements_are_stored_again(
    service: Service, project: Project, encoding: str
) -> None:
    sent = [
        {"name": "a", "type": "counter", "value": 2.5, "tags": {"route": "/", "ok": True}},
        {"name": "b", "type": "counter", "value": 7, "temporality": "cumulative"},
        {"name": "c", "type": "gauge", "value": -1.5, "user_id": "u"},
        {"name": "d", "type": "meter", "value": 1e300},
        {"name": "e", "type": "histogram", "value": [3, 1, 3, 0.1]},
        {"name": "f", "type": "summary", "value": {"count": 2, "sum": 3, "min": 1, "max": 2}},
        {"name": "g", "type": "summary", "value": {"count": 2, "sum": 0, "min": -1, "max": 1}},
    ]
    accepted(send(service, project, {"node_id": "n-1", "metrics": sent}, path="/v1/metrics"))
    stored = [PointRow(*row) for row in rows_of(service, project, COLUMNS, "ingest_metricpoint", 7)]

    other = another_project()
    export(service, other, metrics(PROJECT, stored), encoding, "/otlp/v1/metrics")

    pseudonyms = Pseudonyms(settings.PEPPER, Row.objects.get(slug=other.project).pk)
    again = [PointRow(*row) for row in rows_of(service, other, COLUMNS, "ingest_metricpoint", 7)]
    for row, found in zip(stored, again, strict=True):
        for field in ("occurred_at", "name", "kind", "node", "cumulative", "value"):
            assert getattr(found, field) == getattr(row, field), field
        assert found.subject == (row.subject and pseudonyms.subject(row.subject.hex()))
        assert json.loads(found.tags) == json.loads(row.tags)
        if row.samples is not None:
            assert found.samples is not None
            assert found.weights is not None
            assert dict(zip(found.samples, found.weights, strict=True)) == Counter(row.samples)
        else:
            for field in ("count", "sum", "min", "max"):
                assert getattr(found, field) == getattr(row, field), field
