"""What the code counts with: one function a metric, from label values to what is moved.

    events("submit", "stored").inc(3)

The label values' objects are looked up once and kept. `manage.py up` gives its processes a folder
of files that they share (PROMETHEUS_MULTIPROC_DIR); any other process counts for itself.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, values

from telemetry_site.monitoring.slots import Slot, value_class
from telemetry_site.monitoring.table import METRICS

FOLDER = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
if FOLDER:
    # Before the first metric is made.
    values.ValueClass = value_class(Slot(Path(FOLDER)))


def _counter(name: str) -> Callable[..., Counter]:
    metric = METRICS[name]
    return cache(Counter(name, metric.help, metric.labels, registry=None).labels)


def _histogram(name: str) -> Callable[..., Histogram]:
    metric = METRICS[name]
    return cache(
        Histogram(name, metric.help, metric.labels, registry=None, buckets=metric.buckets).labels
    )


def _gauge(name: str) -> Callable[..., Gauge]:
    """One that says what is so in the process that says most."""
    metric = METRICS[name]
    return cache(
        Gauge(name, metric.help, metric.labels, registry=None, multiprocess_mode="max").labels
    )


requests = _counter("telemetry_requests_total")
rate_limited = _counter("telemetry_rate_limited_total")
batch_events = _histogram("telemetry_batch_events")
accept_seconds = _histogram("telemetry_accept_seconds")
events = _counter("telemetry_events_total")
accepted_to_stored_seconds = _histogram("telemetry_accepted_to_stored_seconds")
deliveries = _counter("telemetry_deliveries_total")
forwarded_items = _counter("telemetry_forwarded_items_total")
forward_seconds = _histogram("telemetry_forward_seconds")
tasks = _counter("telemetry_tasks_total")
task_seconds = _histogram("telemetry_task_seconds")
rollups = _counter("telemetry_rollups_total")
breaker_open = _gauge("telemetry_breaker_open")
