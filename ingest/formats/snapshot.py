"""A node's snapshot, `POST /api/telemetry/snapshot` (source 004): one flat object. Pure.

`node_id` and `timestamp` are required; a whole number is taken for the digits of the one and for
the milliseconds of the other. Each further field that is a number becomes a gauge `node.<field>`,
also one that is not among the source's. A field that is null is one that could not be measured.

Of the source's own fields anything but a number or null is an error: lost without a word, it would
look like a node that stopped measuring. Of other fields what is no number is no measurement and is
left out: a daemon that adds its host's name must not lose its snapshots over it.

A snapshot is one item, taken or refused as a whole. Its batch id follows from node and instant, and
no other id that is sent overrides it: a repeat is a duplicate.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from ingest.formats import fields
from ingest.formats.items import blaming_the_batch
from ingest.formats.json_values import check_nesting, check_values, load
from ingest.records import (
    DecodedBatch,
    Envelope,
    InvalidRecord,
    Limits,
    MalformedBatch,
    Point,
    microseconds,
)

NAMESPACE = UUID("adbe6ceb-5137-4adc-9510-cd6c4a4b05af")
FIELDS = frozenset(
    {
        "cpu_percent",
        "memory_percent",
        "memory_used_mb",
        "memory_total_mb",
        "disk_percent",
        "disk_used_gb",
        "disk_total_gb",
        "network_rx_bytes",
        "network_tx_bytes",
        "network_rx_rate_mbps",
        "network_tx_rate_mbps",
        "uptime_seconds",
        "process_count",
        "active_connections",
        "load_avg_1m",
        "load_avg_5m",
        "load_avg_15m",
    }
)

_PREFIX = "node."
_NO_TAGS = b"{}"
_NUMBER_BYTES = 8
# What a snapshot says of itself, and what would be a person's id: never measurements.
_NOT_MEASURED = frozenset({"node_id", "timestamp", "batch_id", "user_id", "session_id"})


def decode(body: bytes, envelope: Envelope) -> DecodedBatch:
    """The gauges of a snapshot: one item, of one point a field.

    Raises MalformedBatch where the snapshot can't be taken.
    """
    limits = envelope.limits
    value, clean = load(body, limits)
    if not isinstance(value, dict):
        raise MalformedBatch(
            "invalid_type", "A snapshot must be one object; each is sent by itself"
        )
    with blaming_the_batch():
        (check_nesting if clean else check_values)(value, limits)
        node_id = fields.identifier(value.get("node_id"), "node_id", limits)
        node = fields.required(node_id, "node_id")
        occurred_at = fields.moment_or_milliseconds(value.get("timestamp"), "timestamp")
        measured = _measured(value, limits)
    return DecodedBatch(
        [
            Point(0, part, occurred_at, name, "gauge", None, node, _NO_TAGS, value=number)
            for part, (name, number) in enumerate(measured.items())
        ],
        [],
        batch_id=_batch_id(node, occurred_at),
        sent_at=occurred_at,
        node=node,
    )


def _measured(snapshot: dict[str, Any], limits: Limits) -> dict[str, float]:
    """The numbers of a snapshot by the names of their gauges."""
    found: dict[str, float] = {}
    for field, value in snapshot.items():
        if type(value) in (int, float) and field not in _NOT_MEASURED:
            found[_PREFIX + field] = float(value)
        elif field in FIELDS and value is not None:
            raise InvalidRecord("invalid_type", f"{field} must be a number", field)
    if not found:
        raise InvalidRecord("missing_field", "A snapshot must have a field that is a number")
    _check_size(found, limits)
    return found


def _check_size(measured: dict[str, float], limits: Limits) -> None:
    if len(measured) > limits.batch_events:
        raise InvalidRecord(
            "too_many_fields",
            f"{len(measured)} numbers in one snapshot; at most {limits.batch_events} are taken",
        )
    if max(map(len, measured)) > limits.name_length:
        raise InvalidRecord(
            "name_too_long", f"A gauge's name is longer than {limits.name_length} characters"
        )
    if sum(len(name.encode()) + _NUMBER_BYTES for name in measured) > limits.event_bytes:
        raise InvalidRecord(
            "event_too_large", f"A snapshot is larger than {limits.event_bytes} bytes"
        )


def _batch_id(node: str, occurred_at: datetime) -> UUID:
    return uuid5(NAMESPACE, f"{microseconds(occurred_at)} {node}")
