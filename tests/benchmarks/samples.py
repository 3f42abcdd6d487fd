"""Batches as clients send them: made before the clock starts, no two alike.

About 400 bytes of JSON an event; a hundred of them are 40 KB, of which gzip makes 5.6 KB.
"""

import gzip
import random
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

GZIP_LEVEL = 6
_NAMES = ("plugin_loaded", "preset_changed", "render_finished", "buffer_underrun", "command_run")
_CATEGORIES = ("application", "system", "business", "network")
_LEVELS = ("info", "info", "info", "warn", "error")
_HOSTS = ("Cubase", "Reaper", "Logic Pro", "Ableton Live", "Studio One")
_PLUGINS = ("Compressor", "Equalizer", "Reverb", "Limiter", "Delay")
_SYSTEMS = ("Windows 11 23H2", "macOS 14.5", "Ubuntu 24.04")
_USERS_A_BATCH = 5
_SEVERITIES = {"INFO": 9, "WARN": 13, "ERROR": 17}
_FIELDS = {str: "string_value", int: "int_value", float: "double_value"}
_encode = msgspec.json.Encoder().encode


def content_type(path: str) -> str:
    """What the bodies for `path` are."""
    return "application/x-protobuf" if path.startswith("/otlp/") else "application/json"


def batches(count: int, events: int, seed: int, path: str = "/v1/events") -> list[bytes]:
    """The gzipped bodies of `count` batches of `events` items each, as `path` takes them."""
    dice = random.Random(seed)
    now = datetime.now(UTC)
    make = _MAKERS[path]
    return [_compress(make(dice, now, events)) for _ in range(count)]


def batch(dice: random.Random, now: datetime, events: int) -> bytes:
    """One batch as JSON."""
    users = [f"{dice.getrandbits(64):016x}" for _ in range(min(events, _USERS_A_BATCH))]
    start = now - timedelta(seconds=dice.randrange(60, 1800))
    return _encode(
        {
            "batch_id": str(uuid.UUID(int=dice.getrandbits(128), version=4)),
            "timestamp": now.isoformat(),
            "client_version": "2.14.3",
            "events": [_event(dice, start, index, users) for index in range(events)],
        }
    )


def _event(dice: random.Random, start: datetime, index: int, users: list[str]) -> dict[str, Any]:
    user = users[index * len(users) // 100 % len(users)]
    return {
        "event": dice.choice(_NAMES),
        "timestamp": _moment(dice, start, index).isoformat(timespec="milliseconds"),
        "user_id": user,
        "session_id": f"s-{user}",
        "category": dice.choice(_CATEGORIES),
        "level": dice.choice(_LEVELS),
        "properties": _properties(dice),
    }


def _moment(dice: random.Random, start: datetime, index: int) -> datetime:
    return start + timedelta(microseconds=index * 500_000 + dice.randrange(500_000))


def _properties(dice: random.Random) -> dict[str, Any]:
    return {
        "plugin": dice.choice(_PLUGINS),
        "host_application": dice.choice(_HOSTS),
        "operating_system": dice.choice(_SYSTEMS),
        "sample_rate": dice.choice((44100, 48000, 96000)),
        "buffer_size": dice.choice((128, 256, 512, 1024)),
        "duration_ms": round(dice.expovariate(0.02), 3),
        "cpu_percent": round(dice.uniform(0, 100), 4),
        "memory_bytes": dice.randrange(10**8, 10**9),
        "instance": f"{dice.getrandbits(96):024x}",
    }


def _log_records(dice: random.Random, now: datetime, records: int) -> bytes:
    """The same as OTLP's log records, in a trace, and with a text."""
    start = now - timedelta(seconds=dice.randrange(60, 1800))
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    of_service = {"service.name": "bench", "service.version": "2.14.3"}
    resource.resource.attributes.extend(_attributes(of_service))
    scope = resource.scope_logs.add()
    scope.scope.name = "bench.plugins"
    trace = dice.randbytes(16)
    for index in range(records):
        record = scope.log_records.add()
        record.time_unix_nano = int(_moment(dice, start, index).timestamp() * 1_000_000) * 1000
        record.observed_time_unix_nano = record.time_unix_nano
        record.severity_text = dice.choice(_LEVELS).upper()
        record.severity_number = _SEVERITIES[record.severity_text]
        record.event_name = dice.choice(_NAMES)
        record.body.string_value = f"took {dice.randrange(10_000)} ms"
        record.trace_id, record.span_id = trace, dice.randbytes(8)
        record.attributes.extend(_attributes(_properties(dice)))
    return request.SerializeToString()


def _attributes(values: dict[str, Any]) -> list[KeyValue]:
    attributes = []
    for key, value in values.items():
        attribute = KeyValue(key=key)
        setattr(attribute.value, _FIELDS[type(value)], value)
        attributes.append(attribute)
    return attributes


def _metrics(dice: random.Random, now: datetime, points: int) -> bytes:
    node = f"node-{dice.randrange(100)}"
    return _encode(
        {
            "batch_id": str(uuid.UUID(int=dice.getrandbits(128), version=4)),
            "node_id": node,
            "metrics": [_metric(dice, now, index) for index in range(points)],
        }
    )


def _metric(dice: random.Random, now: datetime, index: int) -> dict[str, Any]:
    kind = dice.choice(("counter", "counter", "gauge", "gauge", "histogram", "meter", "summary"))
    value: Any = round(dice.expovariate(0.1), 3)
    if kind == "histogram":
        value = [round(dice.expovariate(0.1), 3) for _ in range(5)]
    if kind == "summary":
        value = {"count": 12, "sum": 120.5, "min": 0.5, "max": round(20 + value, 3)}
    return {
        "name": f"{dice.choice(('requests', 'latency_ms', 'queue_length', 'errors'))}.{kind}",
        "type": kind,
        "value": value,
        "timestamp": (now - timedelta(milliseconds=100 * index)).isoformat(timespec="milliseconds"),
        "tags": {"service": dice.choice(("storage", "identity", "ledger")), "region": "eu-1"},
    }


def _snapshot(dice: random.Random, now: datetime, _: int) -> bytes:
    """Source 004's: as many numbers as SNAPSHOT_FIELDS."""
    moment = now - timedelta(milliseconds=dice.randrange(80_000_000))
    numbers = {name: round(dice.uniform(0, 1000), 2) for name in SNAPSHOT_FIELDS}
    node = f"192.168.{dice.randrange(256)}.{dice.randrange(256)}"
    return _encode({"node_id": node, "timestamp": moment.isoformat(), **numbers})


SNAPSHOT_FIELDS = (
    "cpu_percent", "memory_percent", "memory_used_mb", "memory_total_mb", "disk_percent",
    "disk_used_gb", "disk_total_gb", "network_rx_bytes", "network_tx_bytes",
    "network_rx_rate_mbps", "network_tx_rate_mbps", "uptime_seconds", "process_count",
    "active_connections", "load_avg_1m", "load_avg_5m", "load_avg_15m",
)  # fmt: skip
_MAKERS = {
    "/v1/events": batch,
    "/v1/metrics": _metrics,
    "/api/telemetry/snapshot": _snapshot,
    "/otlp/v1/logs": _log_records,
}


def _compress(body: bytes) -> bytes:
    return gzip.compress(body, GZIP_LEVEL, mtime=int(time.time()))
