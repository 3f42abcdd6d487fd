"""The alerts as one table of data, from which `deploy/prometheus/alerts.yml` is made.

Each says what to do in the runbook. Several `manage.py up` tell the same of the database: what is
so for all of them is asked with min or max, so that it is one alert.
"""

from dataclasses import dataclass

RUNBOOK = "docs/operations.md#when-something-is-wrong"
WARNING, CRITICAL = "warning", "critical"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: it fires once `expression` has held for so long."""

    name: str
    expression: str
    lasting: str
    severity: str
    summary: str


def _check(name: str) -> str:
    return f'min(telemetry_check_ok{{check="{name}"}}) == 0'


ALERTS = (
    Alert(
        "TelemetryDown",
        'up{job="telemetry"} == 0',
        "1m",
        CRITICAL,
        "{{ $labels.instance }} doesn't answer, or refuses the token.",
    ),
    Alert(
        "TelemetryDatabaseAway",
        _check("database"),
        "1m",
        CRITICAL,
        "PostgreSQL doesn't answer: clients get 503.",
    ),
    Alert(
        "TelemetryDiskNearlyFull",
        'telemetry_check_ok{check="disk"} == 0',
        "1m",
        CRITICAL,
        "The data folder's disk on {{ $labels.instance }} is nearly full.",
    ),
    Alert(
        "TelemetryDiskFillsUp",
        "predict_linear(telemetry_disk_free_bytes[6h], 86400) < 0",
        "1h",
        WARNING,
        "The data folder's disk on {{ $labels.instance }} will be full within a day.",
    ),
    Alert(
        "TelemetryBacklogTooOld",
        _check("backlog"),
        "1m",
        CRITICAL,
        "Accepted batches wait too long to be stored.",
    ),
    Alert(
        "TelemetryWorkerClaimsNothing",
        _check("storing"),
        "1m",
        CRITICAL,
        "Batches wait, and no worker takes them.",
    ),
    Alert(
        "TelemetryWorkerGone",
        _check("worker"),
        "1m",
        CRITICAL,
        "No worker for batches runs.",
    ),
    Alert(
        "TelemetryQueueUnattended",
        "max by (queue) (telemetry_queue_workers) == 0",
        "2m",
        CRITICAL,
        "No worker takes the tasks of the queue {{ $labels.queue }}.",
    ),
    Alert(
        "TelemetryQueuePaused",
        "max by (queue) (telemetry_queue_paused) == 1",
        "1h",
        WARNING,
        "The queue {{ $labels.queue }} has been paused for an hour.",
    ),
    Alert(
        "TelemetryBeatGone",
        _check("beat"),
        "2m",
        CRITICAL,
        "Nobody runs the schedules: no sweep of the ledger, no new partitions.",
    ),
    Alert(
        "TelemetryPartitionsMissing",
        _check("partitions"),
        "15m",
        CRITICAL,
        "A table lacks its partition of today or of the next two days.",
    ),
    Alert(
        "TelemetryPartitionsLate",
        "min by (table) (telemetry_partition_days_ahead) < 6",
        "2h",
        WARNING,
        "{{ $labels.table }} has partitions for {{ $value }} days only: none were made for days.",
    ),
    Alert(
        "TelemetryDeadBatches",
        "max(delta(telemetry_dead_batches[15m])) > 0",
        "0m",
        WARNING,
        "Batches could not be stored; they are kept for replay.",
    ),
    Alert(
        "TelemetryErasuresLate",
        _check("erasures"),
        "5m",
        CRITICAL,
        "Persons who asked for it are not erased in time.",
    ),
    Alert(
        "TelemetryExportsWait",
        "max(telemetry_exports_oldest_seconds) > 3600",
        "5m",
        WARNING,
        "Persons have waited for their data for {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "TelemetryExportsFail",
        "max(telemetry_exports_failed) > 0",
        "0m",
        WARNING,
        "Persons' data could not be gathered: {{ $value }} exports failed.",
    ),
    Alert(
        "TelemetryRollupsLate",
        _check("rollups"),
        "5m",
        WARNING,
        "Counts by the hour, day or month are behind: answers tell until when they are complete.",
    ),
    Alert(
        "TelemetryForwardingLate",
        _check("forwarding"),
        "5m",
        WARNING,
        "What is stored waits to be forwarded: a collector doesn't answer, or no worker sends.",
    ),
    Alert(
        "TelemetryCollectorAway",
        "max(telemetry_destinations_failing) > 0",
        "10m",
        WARNING,
        "{{ $value }} collectors don't answer: what is stored for them waits.",
    ),
    Alert(
        "TelemetryDeliveriesDead",
        "max(delta(telemetry_deliveries_undelivered[15m])) > 0",
        "0m",
        WARNING,
        "Collectors refused deliveries, or were away for too long; they are kept for replay.",
    ),
    Alert(
        "TelemetryForwardingFails",
        'sum(rate(telemetry_deliveries_total{outcome=~"dead|expired"}[15m])) '
        '/ sum(rate(telemetry_deliveries_total{outcome=~"delivered|dead|expired"}[15m])) > 0.05',
        "15m",
        WARNING,
        "{{ $value | humanizePercentage }} of the deliveries don't arrive.",
    ),
    Alert(
        "TelemetryCollectorRejects",
        'sum(rate(telemetry_forwarded_items_total{outcome="rejected"}[15m])) > 0',
        "15m",
        WARNING,
        "A collector takes requests and rejects some of what is in them.",
    ),
    Alert(
        "TelemetryReplicaUnread",
        _check("replica"),
        "5m",
        WARNING,
        "The replica is away or lags: questions and exports are read from the database itself.",
    ),
    Alert(
        "TelemetryServerErrors",
        'sum(rate(telemetry_requests_total{status=~"5.."}[5m])) '
        "/ sum(rate(telemetry_requests_total[5m])) > 0.01",
        "5m",
        CRITICAL,
        "{{ $value | humanizePercentage }} of the requests are answered with a 5xx.",
    ),
    Alert(
        "TelemetryAcceptSlow",
        "histogram_quantile(0.99, sum by (le) (rate(telemetry_accept_seconds_bucket[5m]))) > 1",
        "10m",
        WARNING,
        "One batch in a hundred takes {{ $value | humanizeDuration }} or more to accept.",
    ),
    Alert(
        "TelemetryTasksFail",
        'sum by (task) (rate(telemetry_tasks_total{outcome=~"failed|killed"}[15m])) > 0',
        "15m",
        WARNING,
        "{{ $labels.task }} keeps failing.",
    ),
    Alert(
        "TelemetryRateLimitsOff",
        'max(telemetry_breaker_open{breaker="rate_limits"}) == 1',
        "1m",
        WARNING,
        "Redis doesn't answer the web processes: nobody is limited.",
    ),
    Alert(
        "TelemetryBrokerAway",
        _check("broker"),
        "1m",
        CRITICAL,
        "The broker doesn't answer: batches are accepted and wait.",
    ),
)
