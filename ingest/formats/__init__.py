"""The wire formats: each one pure decoder, from a body's bytes to records.

A new format of batches is one module beside this one, one line in `FORMATS`, and one test file.
"""

from collections.abc import Callable, Iterator

from ingest.formats import client_telemetry, events, metrics, snapshot, submit
from ingest.formats.otlp import logs
from ingest.formats.otlp import metrics as otlp_metrics
from ingest.records import DecodedBatch, Envelope

Decoder = Callable[[bytes, Envelope], DecodedBatch]
OtlpDecoder = Callable[[bytes, str, Envelope], Iterator[DecodedBatch]]

FORMATS: dict[str, Decoder] = {
    "events": events.decode,
    "submit": submit.decode,
    "client_telemetry": client_telemetry.decode,
    "metrics": metrics.decode,
    "snapshot": snapshot.decode,
}
# Of OTLP a request is in one of two encodings, and may hold several batches.
OTLP_FORMATS: dict[str, OtlpDecoder] = {
    "otlp_logs": logs.decode,
    "otlp_metrics": otlp_metrics.decode,
}
NAMES = tuple(sorted([*FORMATS, *OTLP_FORMATS]))
