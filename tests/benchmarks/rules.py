"""What a project's privacy rules cost, alone and in this process."""

import random
import time
from datetime import UTC, datetime
from typing import Any

from ingest.formats import FORMATS
from ingest.records import Envelope, Point, Record
from privacy.rules import Rules
from privacy.subjects import Pseudonyms
from tests.benchmarks import samples

_ROUNDS = 5
_BATCHES = 200
# Each hits every event of a sample; the rest name what no event has.
HITTING: list[dict[str, Any]] = [
    {"property": "instance", "do": "hash"},
    {"property": "duration_ms", "do": "bucketise", "edges": [0, 1, 10, 100, 1000]},
    {"property": "memory_bytes", "do": "bucketise", "edges": [10**8, 5 * 10**8]},
    {"property": "operating_system", "do": "generalise", "segments": 1, "separator": " "},
    {"property": "host_application", "do": "generalise", "groups": {"Cubase": "Steinberg"},
     "other": "other"},
    {"property": "plugin", "do": "redact"},
    {"property": "cpu_percent", "do": "bucketise", "edges": [10, 50, 90]},
    {"property": "sample_rate", "do": "drop"},
    {"property": "buffer_size", "do": "drop"},
    {"property": "client_version", "do": "generalise", "segments": 2},
]  # fmt: skip
MISSING = [{"property": f"absent_{number}.name", "do": "drop"} for number in range(20)]


def seconds(rules: list[dict[str, Any]], events: int) -> float:
    """CPU seconds a batch, of a project that has these rules."""
    now = datetime.now(UTC)
    bodies = [samples.batch(random.Random(seed), now, events) for seed in range(_BATCHES)]
    compiled = Rules.parse(rules)
    return sorted(_round(bodies, compiled) for _ in range(_ROUNDS))[_ROUNDS // 2]


def _round(bodies: list[bytes], rules: Rules) -> float:
    pseudonyms = Pseudonyms(b"benchmark" * 8, 1)
    # Changed in place: each round decodes anew, off the clock.
    batches: list[list[Record | Point]] = [
        list(FORMATS["events"](body, Envelope()).records) for body in bodies
    ]
    begun = time.thread_time()
    for records in batches:
        if rules:  # as intake asks
            rules.apply(records, pseudonyms)
    return (time.thread_time() - begun) / len(batches)
