"""What scrubbing costs, alone and in this process: of a clean batch, and of one full of persons."""

import random
import time
from datetime import UTC, datetime

import msgspec

from ingest.formats import FORMATS
from ingest.records import Envelope, Point, Record
from privacy.scrubbing import Mode, scrub
from privacy.subjects import Pseudonyms
from tests.benchmarks import samples

_ROUNDS = 5
_BATCHES = 200


def clean(events: int) -> float:
    """CPU seconds a batch in which there is nothing to find."""
    return _median([_decoded(seed, events, plant=False) for seed in range(_BATCHES)])


def full(events: int) -> float:
    """CPU seconds a batch in which every event has an e-mail address, an address and a home."""
    return _median([_decoded(seed, events, plant=True) for seed in range(_BATCHES)])


def _decoded(seed: int, events: int, *, plant: bool) -> bytes:
    body = samples.batch(random.Random(seed), datetime.now(UTC), events)
    if not plant:
        return body
    batch = msgspec.json.decode(body)
    for index, event in enumerate(batch["events"]):
        event["message"] = f"export for alice.{index}@example.com failed"
        event["properties"]["peer"] = f"203.0.113.{index % 256}"
        event["properties"]["path"] = f"/home/alice{index}/Music/mix.wav"
    return msgspec.json.encode(batch)


def _median(bodies: list[bytes]) -> float:
    pseudonyms = Pseudonyms(b"benchmark" * 8, 1)
    return sorted(_round(bodies, pseudonyms) for _ in range(_ROUNDS))[_ROUNDS // 2]


def _round(bodies: list[bytes], pseudonyms: Pseudonyms) -> float:
    # Scrubbed in place: each round decodes anew, off the clock.
    batches: list[list[Record | Point]] = [
        list(FORMATS["events"](body, Envelope()).records) for body in bodies
    ]
    begun = time.thread_time()
    for records in batches:
        scrub(records, Mode.REDACT, pseudonyms)
    return (time.thread_time() - begun) / len(batches)
