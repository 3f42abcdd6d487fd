"""The wire formats: each one pure decoder, from a body's bytes to records.

A new format is one module beside this one, one line in `FORMATS`, and one test file.
"""

from collections.abc import Callable

from ingest.formats import client_telemetry, events, metrics, snapshot, submit
from ingest.records import DecodedBatch, Envelope

Decoder = Callable[[bytes, Envelope], DecodedBatch]

FORMATS: dict[str, Decoder] = {
    "events": events.decode,
    "submit": submit.decode,
    "client_telemetry": client_telemetry.decode,
    "metrics": metrics.decode,
    "snapshot": snapshot.decode,
}
