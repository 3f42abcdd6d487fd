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


def batches(count: int, events: int, seed: int) -> list[bytes]:
    """The gzipped bodies of `count` batches of `events` events each."""
    dice = random.Random(seed)
    now = datetime.now(UTC)
    return [_compress(batch(dice, now, events)) for _ in range(count)]


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


def _compress(body: bytes) -> bytes:
    return gzip.compress(body, GZIP_LEVEL, mtime=int(time.time()))
