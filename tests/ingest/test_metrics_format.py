"""Metrics: what `POST /v1/metrics` takes of each kind, and what it says of what it doesn't."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ingest.formats import FORMATS
from ingest.formats.metrics import MOST_TAGS, decode
from ingest.records import KINDS, Limits, Point
from tests.ingest.decoding import WireFormat

TIME = "2026-11-20T10:30:00Z"
MOMENT = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
NOW = 1_795_170_600_123
BATCH_ID = "0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11"
OTHER_ID = UUID("11111111-2222-4333-8444-555555555555")

METRICS = WireFormat("metrics", {"name": "queue.length", "type": "gauge", "value": 3}, "metrics")
metric, batch = METRICS.item, METRICS.batch
decoded, only, refused, malformed = (
    METRICS.decoded,
    METRICS.only,
    METRICS.refused,
    METRICS.malformed,
)


def measured(kind: str, value: Any, **fields: Any) -> Point:
    return only(metric(type=kind, value=value, **fields))


def wrong(kind: str, value: Any, **fields: Any) -> tuple[str, str | None]:
    rejection = refused(metric(type=kind, value=value, **fields))
    return rejection.code, rejection.field


def summary(**fields: Any) -> dict[str, Any]:
    """The value of a summary, changed by `fields`; `...` leaves one out."""
    whole = {"count": 4, "sum": 10.5, "min": 1, "max": 4.5} | fields
    return {name: value for name, value in whole.items() if value is not ...}


def tags(point: Point) -> Any:
    return json.loads(point.tags)


def test_the_format_is_registered():
    assert FORMATS["metrics"] is decode


# What a body may be


def test_the_batch_of_the_contract():
    body = {
        "node_id": "node-7",
        "batch_id": BATCH_ID,
        "timestamp": "2026-11-20T10:31:00Z",
        "user_id": "u-1",
        "metrics": [
            {
                "name": "storage.uploads.success",
                "type": "counter",
                "value": 1,
                "timestamp": TIME,
                "tags": {"region": "eu"},
            }
        ],
    }
    result = decoded(body)
    assert (result.batch_id, result.received) == (UUID(BATCH_ID), 1)
    assert result.sent_at == MOMENT + timedelta(minutes=1)
    assert (result.user_id, result.node) == ("u-1", "node-7")
    assert result.records == [
        Point(
            position=0,
            part=0,
            occurred_at=MOMENT,
            name="storage.uploads.success",
            kind="counter",
            user_id="u-1",
            node="node-7",
            tags=b'{"region":"eu"}',
            value=1.0,
        )
    ]


@pytest.mark.parametrize(
    "body", [batch(metric()), [metric()], metric()], ids=["batch", "list", "metric"]
)
def test_the_three_shapes_of_a_body_give_the_same_point(body: Any):
    assert only(body) == only(batch(metric()))


def test_a_list_keeps_its_order():
    result = decoded([metric(name=name) for name in ("a", "b", "c")])
    assert [(point.position, point.part, point.name) for point in result.records] == [
        (0, 0, "a"),
        (1, 0, "b"),
        (2, 0, "c"),
    ]


def test_a_bare_bad_metric_is_rejected_as_a_batch_of_one():
    result = decoded(metric(name=...))
    assert (result.records, result.received) == ([], 1)


def test_a_minimal_metric_names_no_time_no_node_and_no_user():
    point = only(metric())
    assert (point.occurred_at, point.node, point.user_id) == (None, None, None)
    assert (point.tags, point.cumulative) == (b"{}", False)


def test_unknown_fields_are_ignored():
    plain = only(batch(metric(tags={"a": 1})))
    more = batch(metric(tags={"a": 1}, unit="ms", extra={"a": [1]}), sdk={"name": "x"})
    assert only(more) == plain


# Who wins: the metric, then the batch, then the header


@pytest.mark.parametrize(
    ("own", "of_batch", "header", "expected"),
    [
        ("metric", "batch", "header", "metric"),
        (7, "batch", "header", "7"),
        (..., "batch", "header", "batch"),
        (None, 8, "header", "8"),
        ("", None, "header", "header"),
        (..., ..., None, None),
    ],
)
def test_user_of_metric_then_batch_then_header(own, of_batch, header, expected):
    body = batch(metric(user_id=own)) | ({} if of_batch is ... else {"user_id": of_batch})
    assert only(body, user_id=header).user_id == expected


@pytest.mark.parametrize(
    ("own", "of_batch", "expected"),
    [
        ("metric", "batch", "metric"),
        (7, "batch", "7"),
        (..., 8, "8"),
        ("", "batch", "batch"),
        (..., None, None),
    ],
)
def test_node_of_metric_then_batch(own, of_batch, expected):
    assert only(batch(metric(node_id=own), node_id=of_batch)).node == expected


@pytest.mark.parametrize("users_optional", [True, False])
def test_users_are_optional_whatever_the_project_says(users_optional: bool):
    assert only(metric(), users_optional=users_optional).user_id is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (batch(metric(), user_id="u", node_id=7), ("u", "7")),
        (batch(metric(user_id="u", node_id="n")), (None, None)),
        ([metric(user_id="u", node_id="n")], (None, None)),
        (metric(user_id=8, node_id="n"), ("8", "n")),
        (metric(), (None, None)),
    ],
    ids=["batch", "its metrics alone", "list", "metric", "metric of none"],
)
def test_a_batch_is_from_the_user_and_node_it_names_itself(body: Any, expected: Any):
    result = decoded(body, user_id="header")
    assert (result.user_id, result.node) == expected


@pytest.mark.parametrize(
    ("of_batch", "expected"), [(BATCH_ID, UUID(BATCH_ID)), (None, OTHER_ID), ("", OTHER_ID)]
)
def test_batch_id_of_batch_then_header(of_batch: str | None, expected: UUID):
    assert decoded(batch(metric(), batch_id=of_batch), batch_id=OTHER_ID).batch_id == expected


# What each kind measures


@pytest.mark.parametrize("kind", ["counter", "gauge", "meter"])
@pytest.mark.parametrize("value", [0, 3, 2.5, 2**63, 1e300, -0.0])
def test_a_counter_a_gauge_and_a_meter_have_a_value(kind: str, value: float):
    point = measured(kind, value)
    assert (point.kind, point.value) == (kind, float(value))
    assert isinstance(point.value, float)
    assert [point.samples, point.count, point.sum, point.min, point.max] == [None] * 5


@pytest.mark.parametrize("kind", ["gauge", "meter"])
def test_a_gauge_and_a_meter_may_be_negative(kind: str):
    assert measured(kind, -1.5).value == -1.5


@pytest.mark.parametrize("temporality", ["delta", "cumulative", ...])
def test_a_counter_is_never_negative(temporality: Any):
    assert wrong("counter", -1, temporality=temporality) == ("invalid_value", "value")


@pytest.mark.parametrize(
    ("value", "samples"),
    [
        (3, [3.0]),
        (2.5, [2.5]),
        ([1], [1.0]),
        ([3, 1.5, -2], [3.0, 1.5, -2.0]),
        ([0] * 100, [0.0] * 100),
    ],
)
def test_a_histogram_has_samples(value: Any, samples: list[float]):
    point = measured("histogram", value)
    assert point.samples == samples
    assert all(isinstance(sample, float) for sample in point.samples)
    assert [point.value, point.count, point.sum, point.min, point.max] == [None] * 5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (summary(), (4, 10.5, 1.0, 4.5)),
        (summary(count=1, sum=2, min=2, max=2), (1, 2.0, 2.0, 2.0)),
        (summary(count=4.0), (4, 10.5, 1.0, 4.5)),
        (summary(count=2**63 - 1), (2**63 - 1, 10.5, 1.0, 4.5)),
        (summary(sum=-8, min=-5, max=-1), (4, -8.0, -5.0, -1.0)),
        (summary(avg=2.6, p99=[4]), (4, 10.5, 1.0, 4.5)),
    ],
)
def test_a_summary_has_count_sum_and_extremes(value: Any, expected: Any):
    point = measured("summary", value)
    assert (point.count, point.sum, point.min, point.max) == expected
    assert [type(point.count), type(point.sum), type(point.min)] == [int, float, float]
    assert (point.value, point.samples) == (None, None)


@pytest.mark.parametrize("extreme", [..., None, 0, 7])
def test_a_summary_of_nothing_has_no_extremes(extreme: Any):
    """Zeros that stand for nothing would be the least of all real values."""
    point = measured("summary", summary(count=0, sum=0, min=extreme, max=extreme))
    assert (point.count, point.sum, point.min, point.max) == (0, 0.0, None, None)


@pytest.mark.parametrize(
    ("value", "code", "field"),
    [
        (summary(count=...), "missing_field", "value.count"),
        (summary(sum=None), "missing_field", "value.sum"),
        (summary(min=...), "missing_field", "value.min"),
        (summary(max=...), "missing_field", "value.max"),
        (summary(count=0, sum=...), "missing_field", "value.sum"),
        (summary(count=-1), "invalid_value", "value.count"),
        (summary(count=2**63), "invalid_value", "value.count"),
        (summary(count=1e300), "invalid_value", "value.count"),
        (summary(count=1.5), "invalid_type", "value.count"),
        (summary(count=True), "invalid_type", "value.count"),
        (summary(count="4"), "invalid_type", "value.count"),
        (summary(sum="10"), "invalid_type", "value.sum"),
        (summary(min=[1]), "invalid_type", "value.min"),
        (summary(max=False), "invalid_type", "value.max"),
        (summary(min=5), "invalid_value", "value.min"),
        (summary(count=0), "invalid_value", "value.sum"),
        ({}, "missing_field", "value.count"),
        ([4, 10.5, 1, 4.5], "invalid_type", "value"),
        (3, "invalid_type", "value"),
        ("3", "invalid_type", "value"),
    ],
)
def test_what_is_no_summary_is_rejected(value: Any, code: str, field: str):
    assert wrong("summary", value) == (code, field)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("value", ["3", True, False, "", [[1]], ["1"], [True], [None]], ids=repr)
def test_what_is_no_number_is_no_value_of_any_kind(kind: str, value: Any):
    assert wrong(kind, value) == ("invalid_type", "value")


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("value", [None, ...])
def test_every_kind_needs_a_value(kind: str, value: Any):
    assert wrong(kind, value) == ("missing_field", "value")


@pytest.mark.parametrize("kind", ["counter", "gauge", "meter"])
@pytest.mark.parametrize("value", [[1], [], summary(), {}])
def test_samples_and_summaries_are_no_single_value(kind: str, value: Any):
    assert wrong(kind, value) == ("invalid_type", "value")


def test_a_histogram_has_at_least_one_sample():
    assert wrong("histogram", []) == ("invalid_value", "value")


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**64, 10**400])
def test_numbers_are_finite_and_of_64_bits(kind: str, value: Any):
    assert wrong(kind, value)[0] == "number_out_of_range"
    assert wrong(kind, [1, value])[0] == "number_out_of_range"
    assert wrong(kind, summary(max=value))[0] == "number_out_of_range"


# Temporality


@pytest.mark.parametrize(
    ("own", "of_batch", "cumulative"),
    [
        ("cumulative", "delta", True),
        ("cumulative", None, True),
        ("delta", "cumulative", False),
        (..., "cumulative", True),
        (None, "cumulative", True),
        (..., "delta", False),
        (..., None, False),
    ],
)
def test_temporality_of_metric_then_batch_then_delta(own, of_batch, cumulative):
    body = batch(metric(type="counter", temporality=own), temporality=of_batch)
    assert only(body).cumulative is cumulative


@pytest.mark.parametrize("kind", sorted(KINDS - {"counter"}))
def test_only_a_counter_can_be_cumulative(kind: str):
    value = summary() if kind == "summary" else 1
    assert wrong(kind, value, temporality="cumulative") == ("invalid_temporality", "temporality")
    assert measured(kind, value, temporality="delta").cumulative is False


def test_a_batch_of_cumulative_counters_may_hold_gauges():
    body = batch(metric(type="counter"), metric(), temporality="cumulative")
    assert [point.cumulative for point in decoded(body).records] == [True, False]


@pytest.mark.parametrize("value", ["", "absolute", "Delta", True, 1, ["delta"]], ids=repr)
def test_other_temporalities_are_refused(value: Any):
    assert refused(metric(temporality=value)).code == "invalid_temporality"
    reason = malformed(batch(temporality=value))
    assert (reason.code, reason.field) == ("invalid_temporality", "temporality")


# Moments


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (TIME, MOMENT),
        ("2026-11-20T10:30:00", MOMENT),
        ("2026-11-20T12:30:00+02:00", MOMENT),
        (NOW, MOMENT + timedelta(milliseconds=123)),
        (None, None),
        ("", None),
    ],
)
def test_moments_are_aware_and_optional(value: Any, expected: datetime | None):
    occurred_at = only(metric(timestamp=value)).occurred_at
    assert occurred_at == expected
    assert occurred_at is None or occurred_at.tzinfo is UTC
    assert decoded(batch(metric(), timestamp=value)).sent_at == expected


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2026-11-20",
        1_795_170_600,
        1e12,
        True,
        10**15,
        [TIME],
        "0001-01-01T00:00:00+02",
    ],
    ids=repr,
)
def test_what_is_no_moment_is_rejected(value: Any):
    rejection = refused(metric(timestamp=value))
    assert (rejection.code, rejection.field) == ("invalid_timestamp", "timestamp")
    assert malformed(batch(timestamp=value)).code == "invalid_timestamp"


def test_a_moment_before_the_calendar_is_rejected():
    assert refused(metric(timestamp="0001-01-01T00:00:00+02:00")).code == "invalid_timestamp"


# Tags


@pytest.mark.parametrize("value", ["eu", "", "ü 😀", 0, -7, 2**63, 1.5, True, False])
def test_tags_are_strings_numbers_and_booleans(value: Any):
    kept = tags(only(metric(tags={"a": value})))["a"]
    assert repr(kept) == repr(value)


@pytest.mark.parametrize("given", [None, {}, ...])
def test_without_tags_there_is_an_empty_object(given: Any):
    assert only(metric(tags=given)).tags == b"{}"


def test_the_keys_of_tags_are_in_order():
    """So that one series is always written in one way."""
    one, other = {"b": 1, "a": "x", "c": True}, {"c": True, "a": "x", "b": 1}
    assert only(metric(tags=one)).tags == only(metric(tags=other)).tags
    assert only(metric(tags=one, unit="s")).tags == b'{"a":"x","b":1,"c":true}'


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ([], "invalid_type", "tags"),
        ("a:b", "invalid_type", "tags"),
        (0, "invalid_type", "tags"),
        ({"a": None}, "invalid_type", "tags"),
        ({"a": []}, "invalid_type", "tags"),
        ({"a": {"b": "c"}}, "invalid_type", "tags"),
        ({f"t{n}": n for n in range(MOST_TAGS + 1)}, "too_many_tags", "tags"),
        ({"t" * 201: 1}, "name_too_long", None),
        ({"a": "x" * 33_000}, "event_too_large", None),
        ({"a": "\0"}, "invalid_character", None),
        ({"a": "\ud800"}, "invalid_character", None),
        ({"a": float("inf")}, "number_out_of_range", None),
    ],
)
def test_bad_tags_are_rejected(given: Any, code: str, field: str | None):
    rejection = refused(metric(tags=given))
    assert (rejection.code, rejection.field) == (code, field)


def test_fifty_tags_of_long_names_are_taken():
    given = {"t" * 198 + f"{n:02}": n for n in range(MOST_TAGS)}
    assert tags(only(metric(tags=given))) == given


# Rules for one metric


TOO_LONG = "x" * 201


@pytest.mark.parametrize(
    ("bad", "code", "field"),
    [
        (metric(name=...), "missing_field", "name"),
        (metric(name=""), "missing_field", "name"),
        (metric(name=7), "invalid_type", "name"),
        (metric(name=TOO_LONG), "too_long", "name"),
        (metric(type=...), "missing_field", "type"),
        (metric(type=None), "missing_field", "type"),
        (metric(type="GAUGE"), "invalid_metric_type", "type"),
        (metric(type="timer"), "invalid_metric_type", "type"),
        (metric(type=1), "invalid_metric_type", "type"),
        (metric(type=["gauge"]), "invalid_metric_type", "type"),
        (metric(node_id=1.5), "invalid_type", "node_id"),
        (metric(node_id=True), "invalid_type", "node_id"),
        (metric(node_id=TOO_LONG), "too_long", "node_id"),
        (metric(user_id={}), "invalid_type", "user_id"),
        (metric(user_id=TOO_LONG), "too_long", "user_id"),
        (metric(**{TOO_LONG: 1}), "name_too_long", None),
        (metric(extra="\0"), "invalid_character", None),
        (1, "invalid_type", None),
        ("queue.length:3|g", "invalid_type", None),
        ([metric()], "invalid_type", None),
        (None, "invalid_type", None),
    ],
)
def test_a_bad_metric_is_rejected_with_its_code_and_field(bad: Any, code: str, field: str | None):
    rejection = refused(bad)
    assert (rejection.code, rejection.field) == (code, field)


@pytest.mark.parametrize("field", ["name", "node_id", "user_id"])
def test_200_characters_are_not_too_long(field: str):
    only(metric(**{field: "😀" * 200}))


def test_samples_and_tags_together_are_bounded():
    """A sample is counted with the 8 bytes in which it is stored."""
    limits = Limits(event_bytes=1000)
    tagged = {"a": "x" * 92}
    assert len(only(metric(tags=tagged)).tags) == 100
    many = [1] * 112
    only(metric(type="histogram", value=many, tags=tagged), limits=limits)
    bad = metric(type="histogram", value=[*many, 1], tags=tagged)
    assert refused(bad, limits=limits).code == "event_too_large"


def test_a_metrics_nesting_is_bounded_where_it_is_ignored():
    deep: Any = []
    for _ in range(14):
        deep = [deep]
    only(metric(extra=deep))
    assert refused(metric(extra=[deep])).code == "too_deep"
    bad = metric(type="summary", value=summary(extra=deep))
    assert refused(bad).code == "too_deep"


# Rules for the batch


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (1, "invalid_type", None),
        (None, "invalid_type", None),
        ({}, "missing_field", "metrics"),
        ({"events": [metric()]}, "missing_field", "metrics"),
        ({"metrics": metric()}, "invalid_type", "metrics"),
        ({"metrics": []}, "no_events", "metrics"),
        ([], "no_events", "metrics"),
        (batch(batch_id="b9e4f7a2-..."), "invalid_batch_id", "batch_id"),
        (batch(user_id=True), "invalid_type", "user_id"),
        (batch(node_id=[]), "invalid_type", "node_id"),
        (batch(node_id=TOO_LONG), "too_long", "node_id"),
        (batch(extra="\0"), "invalid_character", None),
    ],
)
def test_a_malformed_batch_has_a_code_and_a_field(body: Any, code: str, field: str | None):
    reason = malformed(body)
    assert (reason.code, reason.field) == (code, field)


def test_as_many_metrics_as_the_limit_says():
    limits = Limits(batch_events=3)
    assert decoded([metric()] * 3, limits=limits).received == 3
    reason = malformed([metric()] * 4, limits=limits)
    assert (reason.code, reason.field) == ("too_many_events", "metrics")
    assert reason.details == "4 metrics in one batch; at most 3 are taken"


def test_a_bad_metric_does_not_fail_its_batch():
    result = decoded(batch(metric(), metric(value="3"), 1, metric(type="counter")))
    assert [(point.position, point.kind) for point in result.records] == [
        (0, "gauge"),
        (3, "counter"),
    ]
    assert [(problem.index, problem.code) for problem in result.rejections] == [
        (1, "invalid_type"),
        (2, "invalid_type"),
    ]
    assert result.received == 4


def test_what_was_refused_shows_names_and_types():
    bad = metric(value=[], tags={"a": 1}, user_id=None)
    assert refused(bad).shape == {
        "name": "string",
        "type": "string",
        "value": "array",
        "tags": "object",
        "user_id": "null",
    }


SECRET = "hunter2"


@pytest.mark.parametrize(
    "bad",
    [
        metric(name=[SECRET]),
        metric(type=SECRET),
        metric(value=SECRET),
        metric(tags=SECRET),
        metric(tags={SECRET: None}),
        metric(node_id=SECRET * 50),
        metric(user_id=[SECRET]),
        metric(temporality=SECRET),
        metric(timestamp=SECRET),
        metric(type="summary", value={SECRET: SECRET}),
        SECRET,
    ],
)
def test_a_rejection_never_holds_a_value(bad: Any):
    rejection = refused(bad)
    assert SECRET not in f"{rejection!r} {rejection}"
