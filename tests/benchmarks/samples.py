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

GZIP_LEVEL = 6
_NAMES = ("plugin_loaded", "preset_changed", "render_finished", "buffer_underrun", "command_run")
_CATEGORIES = ("application", "system", "business", "network")
_LEVELS = ("info", "info", "info", "warn", "error")
_HOSTS = ("Cubase", "Reaper", "Logic Pro", "Ableton Live", "Studio One")
_PLUGINS = ("Compressor", "Equalizer", "Reverb", "Limiter", "Delay")
_SYSTEMS = ("Windows 11 23H2", "macOS 14.5", "Ubuntu 24.04")
_USERS_A_BATCH = 5
_encode = msgspec.json.Encoder().encode


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
    user = index * len(users) // 100 % len(users)
    moment = start + timedelta(microseconds=index * 500_000 + dice.randrange(500_000))
    return {
        "event": dice.choice(_NAMES),
        "timestamp": moment.isoformat(timespec="milliseconds"),
        "user_id": users[user],
        "session_id": f"s-{users[user]}",
        "category": dice.choice(_CATEGORIES),
        "level": dice.choice(_LEVELS),
        "properties": {
            "plugin": dice.choice(_PLUGINS),
            "host_application": dice.choice(_HOSTS),
            "operating_system": dice.choice(_SYSTEMS),
            "sample_rate": dice.choice((44100, 48000, 96000)),
            "buffer_size": dice.choice((128, 256, 512, 1024)),
            "duration_ms": round(dice.expovariate(0.02), 3),
            "cpu_percent": round(dice.uniform(0, 100), 4),
            "memory_bytes": dice.randrange(10**8, 10**9),
            "instance": f"{dice.getrandbits(96):024x}",
        },
    }


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
_MAKERS = {"/v1/events": batch, "/v1/metrics": _metrics, "/api/telemetry/snapshot": _snapshot}


def _compress(body: bytes) -> bytes:
    return gzip.compress(body, GZIP_LEVEL, mtime=int(time.time()))
