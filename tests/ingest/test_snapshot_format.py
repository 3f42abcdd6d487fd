"""A node's snapshot: one flat object, of which each number is a gauge."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from ingest.formats import FORMATS
from ingest.formats.snapshot import FIELDS, decode
from ingest.records import DecodedBatch, Envelope, Limits, MalformedBatch, Point

TIME = "2025-12-17T10:00:00Z"
MOMENT = datetime(2025, 12, 17, 10, 0, tzinfo=UTC)
MILLISECONDS = 1_765_965_600_000

# As source 004 prints it.
PRINTED = b"""{
  "node_id": "192.168.100.27",
  "timestamp": "2025-12-17T10:00:00Z",
  "cpu_percent": 45.2,
  "memory_percent": 67.8,
  "memory_used_mb": 8704,
  "memory_total_mb": 16384,
  "disk_percent": 82.1,
  "disk_used_gb": 82.1,
  "disk_total_gb": 100.0,
  "network_rx_bytes": 2345678,
  "network_tx_bytes": 1234567,
  "network_rx_rate_mbps": 3.2,
  "network_tx_rate_mbps": 1.5,
  "uptime_seconds": 3600,
  "process_count": 234,
  "active_connections": 45,
  "load_avg_1m": 2.5,
  "load_avg_5m": 2.1,
  "load_avg_15m": 1.8
}"""
GAUGES = {
    "node.cpu_percent": 45.2,
    "node.memory_percent": 67.8,
    "node.memory_used_mb": 8704.0,
    "node.memory_total_mb": 16384.0,
    "node.disk_percent": 82.1,
    "node.disk_used_gb": 82.1,
    "node.disk_total_gb": 100.0,
    "node.network_rx_bytes": 2345678.0,
    "node.network_tx_bytes": 1234567.0,
    "node.network_rx_rate_mbps": 3.2,
    "node.network_tx_rate_mbps": 1.5,
    "node.uptime_seconds": 3600.0,
    "node.process_count": 234.0,
    "node.active_connections": 45.0,
    "node.load_avg_1m": 2.5,
    "node.load_avg_5m": 2.1,
    "node.load_avg_15m": 1.8,
}
# The same source's WebSocket format, which is another.
STREAMED = {
    "timestamp": TIME,
    "node_id": "192.168.100.27",
    "metrics": {"cpu": {"cpu_usage_percent": 45.2}, "processes": {"process_count": 234}},
}


def snapshot(**fields: Any) -> dict[str, Any]:
    """A good snapshot, changed by `fields`; `...` leaves one out."""
    whole = {"node_id": "n-1", "timestamp": TIME, "cpu_percent": 45.2} | fields
    return {name: value for name, value in whole.items() if value is not ...}


def decoded(body: Any, **envelope: Any) -> DecodedBatch:
    return decode(json.dumps(body).encode(), Envelope(**envelope))


def malformed(body: Any, **envelope: Any) -> MalformedBatch:
    with pytest.raises(MalformedBatch) as caught:
        decoded(body, **envelope)
    return caught.value


def gauges(body: Any, **envelope: Any) -> dict[str, float | None]:
    return {point.name: point.value for point in points(decoded(body, **envelope))}


def points(batch: DecodedBatch) -> list[Point]:
    assert batch.rejections == []
    return [point for point in batch.records if isinstance(point, Point)]


def test_the_format_is_registered():
    assert FORMATS["snapshot"] is decode


# What a snapshot is


def test_the_snapshot_that_the_source_prints_is_17_gauges():
    assert gauges(json.loads(PRINTED)) == GAUGES
    assert len(GAUGES) == 17


def test_all_of_the_printed_fields_are_known():
    assert {f"node.{name}" for name in FIELDS} == set(GAUGES)


def test_a_snapshot_is_one_item_of_many_points():
    result = decode(PRINTED, Envelope())
    assert result.received == 1
    assert [(point.position, point.part) for point in points(result)] == [
        (0, part) for part in range(17)
    ]


def test_each_point_is_a_gauge_of_the_node_and_of_nobody():
    result = decoded(snapshot(), user_id="header", client_version="1.2")
    assert points(result) == [
        Point(
            position=0,
            part=0,
            occurred_at=MOMENT,
            name="node.cpu_percent",
            kind="gauge",
            user_id=None,
            node="n-1",
            tags=b"{}",
            value=45.2,
        )
    ]


def test_the_batch_is_from_the_node_and_from_no_user():
    result = decoded(snapshot(), user_id="header")
    assert (result.node, result.user_id) == ("n-1", None)


def test_the_batch_was_sent_by_the_snapshots_clock():
    assert decoded(snapshot()).sent_at == MOMENT


# Its numbers


@pytest.mark.parametrize("value", [0, -1, 2**63, 1.5, -0.5, 1e300])
def test_numbers_of_any_sign_and_size_are_taken(value: float):
    taken = gauges(snapshot(cpu_percent=value))["node.cpu_percent"]
    assert taken == float(value)
    assert isinstance(taken, float)


def test_unknown_numbers_are_gauges_too():
    assert gauges(snapshot(gpu_percent=12, fan_rpm=900.5)) == {
        "node.cpu_percent": 45.2,
        "node.gpu_percent": 12.0,
        "node.fan_rpm": 900.5,
    }


def test_parts_follow_the_order_of_the_fields():
    body = snapshot(b=1, hostname="x", a=2, swap_percent=None, c=3)
    assert [(point.part, point.name) for point in points(decoded(body))] == [
        (0, "node.cpu_percent"),
        (1, "node.b"),
        (2, "node.a"),
        (3, "node.c"),
    ]


@pytest.mark.parametrize("field", ["load_avg_1m", "gpu_percent"])
def test_what_could_not_be_measured_is_skipped(field: str):
    assert gauges(snapshot(**{field: None})) == {"node.cpu_percent": 45.2}


@pytest.mark.parametrize(
    "value", ["web-1", "12.5", "", True, False, [1, 2], {"used": 5}, "x" * 1000], ids=str
)
def test_an_unknown_field_that_is_no_number_is_left_out(value: Any):
    """A daemon that adds its host's name must not lose its snapshots over it."""
    assert gauges(snapshot(extra=value)) == {"node.cpu_percent": 45.2}


@pytest.mark.parametrize("field", sorted(FIELDS))
@pytest.mark.parametrize("value", ["45.2", True, [45.2], {"value": 45.2}, ""], ids=repr)
def test_a_known_field_that_is_no_number_is_refused(field: str, value: Any):
    reason = malformed(snapshot(**{field: value}))
    assert (reason.code, reason.field) == ("invalid_type", field)


@pytest.mark.parametrize("field", ["batch_id", "user_id", "session_id"])
def test_ids_are_no_measurements(field: str):
    assert gauges(snapshot(**{field: 7})) == {"node.cpu_percent": 45.2}


@pytest.mark.parametrize(
    "body",
    [
        snapshot(cpu_percent=...),
        snapshot(cpu_percent=None),
        snapshot(cpu_percent=..., hostname="x", healthy=True),
        STREAMED,
    ],
    ids=["nothing", "null", "no numbers", "the WebSocket's format"],
)
def test_a_snapshot_without_a_number_is_refused(body: Any):
    assert malformed(body).code == "missing_field"


# Node and instant


@pytest.mark.parametrize(("value", "node"), [("n-1", "n-1"), (7, "7"), ("😀" * 200, "😀" * 200)])
def test_a_node_is_a_text_or_a_whole_number(value: Any, node: str):
    assert decoded(snapshot(node_id=value)).node == node


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (..., "missing_field"),
        (None, "missing_field"),
        ("", "missing_field"),
        (1.5, "invalid_type"),
        (True, "invalid_type"),
        (["n"], "invalid_type"),
        ({"id": "n"}, "invalid_type"),
        ("n" * 201, "too_long"),
    ],
)
def test_what_is_no_node_is_refused(value: Any, code: str):
    reason = malformed(snapshot(node_id=value))
    assert (reason.code, reason.field) == (code, "node_id")


SAME_INSTANT = [
    "2025-12-17T10:00:00Z",
    "2025-12-17T10:00:00+00:00",
    "2025-12-17T10:00:00.000000+00:00",
    "2025-12-17T10:00:00",
    "2025-12-17 10:00:00",
    "2025-12-17T12:00:00+02:00",
    MILLISECONDS,
]


@pytest.mark.parametrize("timestamp", SAME_INSTANT)
def test_an_instant_is_written_in_many_ways(timestamp: Any):
    assert points(decoded(snapshot(timestamp=timestamp)))[0].occurred_at == MOMENT


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (..., "missing_field"),
        (None, "missing_field"),
        ("", "invalid_timestamp"),
        ("now", "invalid_timestamp"),
        ("2025-12-17", "invalid_timestamp"),
        (1_765_965_600, "invalid_timestamp"),
        (1_765_965_600.5, "invalid_timestamp"),
        (True, "invalid_timestamp"),
        ([TIME], "invalid_timestamp"),
    ],
)
def test_what_is_no_instant_is_refused(value: Any, code: str):
    reason = malformed(snapshot(timestamp=value))
    assert (reason.code, reason.field) == (code, "timestamp")


# A repeat is a duplicate


@pytest.mark.parametrize("timestamp", SAME_INSTANT)
def test_the_same_node_and_instant_make_the_same_batch_id(timestamp: Any):
    first = decoded(snapshot()).batch_id
    assert decoded(snapshot(timestamp=timestamp, cpu_percent=99)).batch_id == first


def test_the_batch_id_never_changes():
    """A daemon may repeat after an upgrade what it sent before."""
    assert decode(PRINTED, Envelope()).batch_id == UUID("d1293f97-c3ea-5054-87a9-ea861ba19733")


@pytest.mark.parametrize(
    "other",
    [
        snapshot(node_id="n-2"),
        snapshot(node_id=1),
        snapshot(timestamp="2025-12-17T10:00:01Z"),
        snapshot(timestamp="2025-12-17T10:00:00.000001Z"),
        snapshot(timestamp="2025-12-17T10:00:00+02:00"),
    ],
)
def test_another_node_or_instant_makes_another(other: Any):
    assert decoded(other).batch_id != decoded(snapshot()).batch_id


def test_a_node_that_is_called_like_an_instant_is_not_taken_for_another():
    one = snapshot(node_id="1 n", timestamp=MILLISECONDS)
    other = snapshot(node_id="n", timestamp=MILLISECONDS)
    assert decoded(one).batch_id != decoded(other).batch_id


@pytest.mark.parametrize("value", ["0b6f9c1e-6d0e-4e5e-9c53-0d5c8f8f1a11", "x", 7, None])
def test_no_other_batch_id_overrides_it(value: Any):
    header = UUID("11111111-2222-4333-8444-555555555555")
    assert decoded(snapshot(batch_id=value), batch_id=header).batch_id == (
        decoded(snapshot()).batch_id
    )


# What is refused as a whole


@pytest.mark.parametrize(
    "body",
    [[snapshot()], [], 1, "snapshot", None, True, [[]]],
    ids=repr,
)
def test_a_snapshot_is_one_object(body: Any):
    reason = malformed(body)
    assert (reason.code, reason.field) == ("invalid_type", None)
    assert "one object" in reason.details


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        (b'"a": 1, "a": 1', "duplicate_key"),
        (b'"node_id": "n-2"', "duplicate_key"),
        (b'"a": "\\u0000"', "invalid_character"),
        (b'"a\\u0000": 1', "invalid_character"),
        (b'"a": "\\ud800"', "invalid_character"),
        (b'"\xff": 1', "invalid_character"),
        (b'"a": NaN', "number_out_of_range"),
        (b'"a": -Infinity', "number_out_of_range"),
        (b'"a": 1e400', "number_out_of_range"),
        (b'"a": 18446744073709551616', "number_out_of_range"),
        (b'"a": ' + b"[" * 16 + b"]" * 16, "too_deep"),
        (b'"%s": 1' % (b"k" * 201), "name_too_long"),
        (b'"%s": "text"' % (b"k" * 201), "name_too_long"),
        (b'"a": {"%s": 1}' % (b"k" * 201), "name_too_long"),
    ],
)
def test_the_rules_on_text_and_numbers(inside: bytes, code: str):
    with pytest.raises(MalformedBatch) as caught:
        decode(b"%s, %s}" % (json.dumps(snapshot()).encode()[:-1], inside), Envelope())
    assert caught.value.code == code


def test_a_gauges_name_is_bounded_with_what_stands_before_it():
    assert "node." + "k" * 195 in gauges(snapshot(**{"k" * 195: 1}))
    assert malformed(snapshot(**{"k" * 196: 1})).code == "name_too_long"


def test_as_many_numbers_as_a_batch_has_events():
    limits = Limits(batch_events=4)
    assert len(gauges(snapshot(a=1, b=2, c=3, d="x"), limits=limits)) == 4
    assert malformed(snapshot(a=1, b=2, c=3, d=4), limits=limits).code == "too_many_fields"


def test_the_size_of_a_snapshot_is_bounded():
    """Names and numbers count, of 8 bytes each; what is left out does not."""
    limits = Limits(event_bytes=100)
    body = snapshot(cpu_percent=..., **{"a" * 79: 1})
    gauges(body | {"hostname": "x" * 1000}, limits=limits)
    assert malformed(body | {"b": 1}, limits=limits).code == "event_too_large"


SECRET = "hunter2"


@pytest.mark.parametrize(
    "body",
    [
        snapshot(node_id=[SECRET]),
        snapshot(node_id=SECRET * 50),
        snapshot(timestamp=SECRET),
        snapshot(cpu_percent=SECRET),
        {SECRET: SECRET, "node_id": SECRET, "timestamp": TIME},
        [SECRET],
    ],
)
def test_a_refusal_never_tells_a_value(body: Any):
    reason = malformed(body)
    assert SECRET not in f"{reason} {reason.details} {reason.field}"
