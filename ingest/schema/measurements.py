"""The bodies of services that send metrics, and of nodes that send snapshots."""

from django.conf import settings

from ingest.formats.metrics import MOST_TAGS
from ingest.formats.snapshot import FIELDS
from ingest.schema.fields import (
    BATCH_ID,
    CLOCK,
    FIELD_NAMES,
    IDENTIFIER,
    NAME,
    OPTIONAL_IDENTIFIER,
    OPTIONAL_TIME,
    TIME,
    batch,
    record,
)
from telemetry_site.openapi import EXAMPLE_DAY, Object, examples, schema

NUMBER: Object = {"type": "number"}
TAGS = schema(
    "Tags",
    {
        "type": ["object", "null"],
        "maxProperties": MOST_TAGS,
        "propertyNames": FIELD_NAMES,
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    },
)
SUMMARY = schema(
    "Summary",
    {
        "description": "How many, their sum, and the smallest and largest; of nothing there are no "
        "extremes.",
        "type": "object",
        "required": ["count", "sum"],
        "anyOf": [
            {
                "required": ["min", "max"],
                "properties": {"count": {"minimum": 1}, "min": NUMBER, "max": NUMBER},
            },
            {"properties": {"count": {"const": 0}, "sum": {"const": 0}}},
        ],
        "properties": {
            "count": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
            "sum": NUMBER,
        },
    },
)


def _metric(name: str, description: str, kinds: list[str], value: Object) -> Object:
    """The metrics of some kinds, all with the same kind of value."""
    temporalities = ["delta", "cumulative"] if "counter" in kinds else ["delta"]
    return record(
        name,
        description,
        ["name", "type", "value"],
        name=NAME,
        type={"type": "string", "enum": kinds},
        value=value,
        timestamp=OPTIONAL_TIME | {"description": "By default, when it is received."},
        tags=TAGS,
        node_id=OPTIONAL_IDENTIFIER,
        user_id=OPTIONAL_IDENTIFIER,
        temporality={"enum": [*temporalities, None]},
    )


METRIC = schema(
    "Metric",
    {
        "description": "What it says of node, user and temporality wins over the batch.",
        "oneOf": [
            _metric(
                "Counter",
                "Only grows. Its value is what was added since the last one, or the whole count "
                "where it is `cumulative`.",
                ["counter"],
                NUMBER | {"minimum": 0},
            ),
            _metric("Gauge", "How much there is now, or a rate.", ["gauge", "meter"], NUMBER),
            _metric(
                "Histogram",
                "A sample, or a list of them.",
                ["histogram"],
                {"anyOf": [NUMBER, {"type": "array", "items": NUMBER, "minItems": 1}]},
            ),
            _metric("SummaryMetric", "Many samples in four numbers.", ["summary"], SUMMARY),
        ],
    },
)
METRICS = batch(
    "MetricBatch",
    "What stands here holds for those of its metrics that don't say it themselves.",
    "metrics",
    METRIC,
    batch_id=BATCH_ID,
    timestamp=OPTIONAL_TIME | {"description": CLOCK},
    node_id=OPTIONAL_IDENTIFIER,
    user_id=OPTIONAL_IDENTIFIER,
    temporality={"enum": ["delta", "cumulative", None], "description": "Of the counters."},
)
SNAPSHOT = schema(
    "Snapshot",
    {
        "description": "Each field that is a number becomes a gauge `node.<field>`, also one that "
        "isn't named here; at least one must. A second snapshot of the same node and time is a "
        "duplicate.",
        "type": "object",
        "required": ["node_id", "timestamp"],
        "minProperties": 3,
        "maxProperties": settings.MAX_BATCH_EVENTS,
        "properties": {
            "node_id": IDENTIFIER,
            "timestamp": TIME,
            **{field: {"type": ["number", "null"]} for field in sorted(FIELDS)},
        },
        "propertyNames": FIELD_NAMES,
    },
)

# --- examples ---

# Measurements of more than a day ago are refused.
_TIME = f"{EXAMPLE_DAY}T23:59:59Z"
METRICS_EXAMPLES = examples(
    batch={
        "node_id": "eu-1",
        "metrics": [
            {"name": "requests", "type": "counter", "value": 12, "tags": {"route": "/upload"}},
            {
                "name": "bytes_sent",
                "type": "counter",
                "value": 73_400_320,
                "temporality": "cumulative",
            },
            {"name": "queue_length", "type": "gauge", "value": 4, "timestamp": _TIME},
            {"name": "uploads_per_second", "type": "meter", "value": 0.4},
            {"name": "latency_ms", "type": "histogram", "value": [12.5, 14.1, 230]},
            {
                "name": "content_bytes",
                "type": "summary",
                "value": {"count": 3, "sum": 8192, "min": 512, "max": 4096},
            },
        ],
    },
    metric={"name": "peer_connections", "type": "gauge", "value": 17, "node_id": "eu-1"},
)
SNAPSHOT_EXAMPLES = examples(
    snapshot={
        "node_id": "192.168.100.27",
        "timestamp": _TIME,
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
        "load_avg_15m": 1.8,
    },
)
