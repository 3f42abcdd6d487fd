"""Every metric as one table of data: what it is called, what it says, and how it is shown.

`/metrics`, `docs/metrics.md` and the dashboard in `deploy/` are made from it. No label says who:
none carries a person, an address, a key, a project or a raw path, and each has few values.
"""

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

EVENTS_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
ACCEPT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STORING_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
FORWARD_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TASK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 90)


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the dashboard: queries in PromQL, each with the legend of its lines."""

    row: str
    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric; `asked` when somebody scrapes, else counted where it happens."""

    name: str
    type: str
    labels: tuple[str, ...]
    unit: str
    help: str
    panels: tuple[Panel, ...] = ()
    buckets: tuple[float, ...] = ()
    asked: bool = False


def _quantiles(name: str, by: str) -> tuple[tuple[str, str], ...]:
    """The median of all, and the 99th percentile by a label."""
    return (
        (f"histogram_quantile(0.5, sum by (le) (rate({name}_bucket[$__rate_interval])))", "median"),
        (
            f"histogram_quantile(0.99, sum by (le, {by}) (rate({name}_bucket[$__rate_interval])))",
            f"p99 {{{{{by}}}}}",
        ),
    )


def _rate(name: str, by: str, legend: str) -> tuple[tuple[str, str], ...]:
    return ((f"sum by ({by}) (rate({name}[$__rate_interval]))", legend),)


_DELIVERED = 'outcome="delivered"'
_SETTLED = 'outcome=~"delivered|dead|expired"'

_ALL = (
    # --- intake ---
    Metric(
        "telemetry_requests_total", COUNTER, ("route", "status"), "requests",
        "Requests answered, by the route's name (unrouted: there is none) and the status.",
        (
            Panel("Intake", "Requests by status", "reqps",
                  _rate("telemetry_requests_total", "status", "{{status}}")),
            Panel("Intake", "Requests by route", "reqps",
                  _rate("telemetry_requests_total", "route", "{{route}}")),
        ),
    ),
    Metric(
        "telemetry_batch_events", HISTOGRAM, ("format",), "events",
        "Events in each batch that was accepted or recognised as a duplicate.",
        (
            Panel("Intake", "Batches", "reqps",
                  _rate("telemetry_batch_events_count", "format", "{{format}}")),
            Panel("Intake", "Events a batch", "short",
                  _quantiles("telemetry_batch_events", "format")),
        ),
        EVENTS_BUCKETS,
    ),
    Metric(
        "telemetry_accept_seconds", HISTOGRAM, ("format",), "seconds",
        "From the first look at a request to its batch being durable.",
        (
            Panel("Intake", "Time to accept a batch", "s",
                  _quantiles("telemetry_accept_seconds", "format")),
        ),
        ACCEPT_BUCKETS,
    ),
    # --- storage ---
    Metric(
        "telemetry_events_total", COUNTER, ("format", "outcome"), "events",
        "Events by what became of them: stored, duplicate, rejected, suppressed, dead. "
        "Of a replayed batch they are counted again.",
        (
            Panel("Storage", "Events by outcome", "short",
                  _rate("telemetry_events_total", "outcome", "{{outcome}}")),
        ),
    ),
    Metric(
        "telemetry_accepted_to_stored_seconds", HISTOGRAM, ("format",), "seconds",
        "From a batch's arrival to its events being stored; replayed batches aside.",
        (
            Panel("Storage", "From accepted to stored", "s",
                  _quantiles("telemetry_accepted_to_stored_seconds", "format")),
        ),
        STORING_BUCKETS,
    ),
    Metric(
        "telemetry_waiting_batches", GAUGE, (), "batches",
        "Accepted batches that wait to be stored; 100,001 is any number above 100,000.",
        (
            Panel("Storage", "Batches that wait, and dead ones", "short",
                  (("max(telemetry_waiting_batches)", "waiting"),
                   ("max(telemetry_dead_batches)", "dead"))),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_waiting_oldest_seconds", GAUGE, (), "seconds",
        "For how long the oldest of them has waited; 0 where none waits.",
        (
            Panel("Storage", "Age of the oldest waiting batch", "s",
                  (("max(telemetry_waiting_oldest_seconds)", "oldest"),)),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_dead_batches", GAUGE, (), "batches",
        "Batches that could not be stored and are kept for replay; 100,001 as above.",
        asked=True,
    ),
    Metric(
        "telemetry_partitions", GAUGE, ("table",), "partitions",
        "Days that a table has a partition for.",
        (
            Panel("Storage", "Partitions", "short",
                  (("max by (table) (telemetry_partitions)", "{{table}}"),)),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_partition_days_ahead", GAUGE, ("table",), "days",
        "Days in a row, from today on, that a table has partitions for.",
        (
            Panel("Storage", "Partitions ahead", "d",
                  (("min by (table) (telemetry_partition_days_ahead)", "{{table}}"),)),
        ),
        asked=True,
    ),
    # --- forwarding ---
    Metric(
        "telemetry_deliveries_total", COUNTER, ("signal", "outcome"), "deliveries",
        "Deliveries by what became of an attempt: delivered, dead (refused), expired (given up), "
        "retried (later), split (in smaller requests).",
        (
            Panel("Forwarding", "Deliveries by outcome", "short",
                  _rate("telemetry_deliveries_total", "outcome", "{{outcome}}")),
            Panel("Forwarding", "Delivered, of what was settled", "percentunit",
                  ((f"sum(rate(telemetry_deliveries_total{{{_DELIVERED}}}[$__rate_interval])) / "
                    f"sum(rate(telemetry_deliveries_total{{{_SETTLED}}}[$__rate_interval]))",
                    "delivered"),)),
        ),
    ),
    Metric(
        "telemetry_forwarded_items_total", COUNTER, ("signal", "outcome"), "items",
        "Events and points of requests that a collector accepted: taken, or rejected by its "
        "partial success.",
        (
            Panel("Forwarding", "Items forwarded", "short",
                  _rate("telemetry_forwarded_items_total", "signal, outcome",
                        "{{signal}} {{outcome}}")),
        ),
    ),
    Metric(
        "telemetry_forward_seconds", HISTOGRAM, ("signal", "outcome"), "seconds",
        "How long a request to a collector took, by what it answered: delivered, retry, refused.",
        (
            Panel("Forwarding", "Time a collector takes", "s",
                  _quantiles("telemetry_forward_seconds", "outcome")),
        ),
        FORWARD_BUCKETS,
    ),
    Metric(
        "telemetry_deliveries_waiting", GAUGE, (), "deliveries",
        "Deliveries that wait for their collectors; counting ends at 100,001 of each.",
        (
            Panel("Forwarding", "Deliveries that wait, and those kept for replay", "short",
                  (("max(telemetry_deliveries_waiting)", "waiting"),
                   ("max(telemetry_deliveries_undelivered)", "dead or expired"))),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_deliveries_oldest_seconds", GAUGE, (), "seconds",
        "For how long the oldest of them has waited; 0 where none waits.",
        (
            Panel("Forwarding", "Age of the oldest waiting delivery", "s",
                  (("max(telemetry_deliveries_oldest_seconds)", "oldest"),)),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_deliveries_undelivered", GAUGE, (), "deliveries",
        "Deliveries that are dead or expired and are kept for replay; counting ends at 100,001.",
        asked=True,
    ),
    Metric(
        "telemetry_destinations_failing", GAUGE, (), "destinations",
        "Collectors that don't answer and for which something waits: they back off.",
        (
            Panel("Forwarding", "Collectors that don't answer", "short",
                  (("max(telemetry_destinations_failing)", "failing"),)),
        ),
        asked=True,
    ),
    # --- tasks ---
    Metric(
        "telemetry_tasks_total", COUNTER, ("task", "outcome"), "tasks",
        "Tasks by how they ended: succeeded, failed, retried, ignored, rejected, killed (over its "
        "time limit), revoked, expired. One whose process dies runs again, and is counted then.",
        (
            Panel("Tasks", "Tasks by outcome", "short",
                  _rate("telemetry_tasks_total", "task, outcome", "{{task}} {{outcome}}")),
        ),
    ),
    Metric(
        "telemetry_task_seconds", HISTOGRAM, ("task",), "seconds",
        "How long a task ran, however it ended.",
        (
            Panel("Tasks", "Run time of tasks", "s", _quantiles("telemetry_task_seconds", "task")),
            Panel("Tasks", "Processes kept busy", "short",
                  _rate("telemetry_task_seconds_sum", "task", "{{task}}")),
        ),
        TASK_BUCKETS,
    ),
    Metric(
        "telemetry_queue_waiting_tasks", GAUGE, ("queue",), "tasks",
        "Tasks that wait in a queue, as the broker has it.",
        (
            Panel("Tasks", "Tasks that wait", "short",
                  (("max by (queue) (telemetry_queue_waiting_tasks)", "{{queue}}"),)),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_queue_oldest_seconds", GAUGE, ("queue",), "seconds",
        "For how long the oldest of them has waited; 0 where none waits.",
        (
            Panel("Tasks", "Age of the oldest waiting task", "s",
                  (("max by (queue) (telemetry_queue_oldest_seconds)", "{{queue}}"),)),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_queue_running_tasks", GAUGE, ("queue",), "tasks",
        "Tasks that a queue's workers run.",
        (
            Panel("Tasks", "Workers, and what they run", "short",
                  (("max by (queue) (telemetry_queue_running_tasks)", "runs {{queue}}"),
                   ("max by (queue) (telemetry_queue_workers)", "workers {{queue}}"))),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_queue_workers", GAUGE, ("queue",), "workers",
        "Workers of a queue that said something in the last ten seconds.",
        asked=True,
    ),
    Metric(
        "telemetry_queue_paused", GAUGE, ("queue",), "",
        "1 while somebody has paused the queue.",
        (
            Panel("Tasks", "Paused", "bool_yes_no",
                  (("max by (queue) (telemetry_queue_paused)", "{{queue}}"),)),
        ),
        asked=True,
    ),
    # --- limits ---
    Metric(
        "telemetry_rate_limited_total", COUNTER, ("rule",), "requests",
        "Requests refused with 429, by the limit that was used up; `block`: an operator did it.",
        (
            Panel("Limits", "Requests over a limit", "reqps",
                  _rate("telemetry_rate_limited_total", "rule", "{{rule}}")),
        ),
    ),
    Metric(
        "telemetry_breaker_open", GAUGE, ("breaker",), "",
        "1 while some process goes without Redis: nudges (batches wait for the sweep), "
        "nudges_to_forward (deliveries wait for the schedule), rate_limits (nobody is limited).",
        (
            Panel("Limits", "Without Redis", "bool_on_off",
                  (("max by (breaker) (telemetry_breaker_open)", "{{breaker}}"),)),
        ),
    ),
    # --- privacy ---
    Metric(
        "telemetry_erasures_due", GAUGE, (), "requests",
        "Requests for erasure whose grace is over and that no worker has completed.",
        (
            Panel("Privacy", "Erasures", "short",
                  (("max(telemetry_erasures_due)", "due"),
                   ("max(telemetry_erasures_failed)", "failed"),
                   ("max(telemetry_erasures_overdue)", "overdue"))),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_erasures_overdue", GAUGE, (), "requests",
        "Requests for erasure that were not completed within the 30 days promised.",
        asked=True,
    ),
    Metric(
        "telemetry_erasures_failed", GAUGE, (), "requests",
        "Requests for erasure that failed and are tried again every hour.",
        asked=True,
    ),
    Metric(
        "telemetry_exports_waiting", GAUGE, (), "exports",
        "Exports of persons' data that wait for a worker, or are made just now.",
        (
            Panel("Privacy", "Exports that wait, and failed ones", "short",
                  (("max(telemetry_exports_waiting)", "waiting"),
                   ("max(telemetry_exports_failed)", "failed"))),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_exports_oldest_seconds", GAUGE, (), "seconds",
        "For how long the oldest of them has waited; 0 where none does.",
        (
            Panel("Privacy", "Age of the oldest waiting export", "s",
                  (("max(telemetry_exports_oldest_seconds)", "oldest"),)),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_exports_failed", GAUGE, (), "exports",
        "Exports that failed after all attempts in the last day.",
        asked=True,
    ),
    # --- rollups ---
    Metric(
        "telemetry_rollups_total", COUNTER, ("level",), "buckets",
        "Buckets (hour, day, month) that were counted anew.",
        (
            Panel("Rollups", "Buckets counted anew", "short",
                  _rate("telemetry_rollups_total", "level", "{{level}}")),
        ),
    ),
    Metric(
        "telemetry_rollups_dirty", GAUGE, ("level",), "buckets",
        "Buckets that have to be counted anew, of the oldest 100,000 marks; the open ones are "
        "nearly always dirty.",
        (
            Panel("Rollups", "Dirty buckets", "short",
                  (("max by (level) (telemetry_rollups_dirty)", "{{level}}"),)),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_rollups_oldest_seconds", GAUGE, ("level",), "seconds",
        "For how long the oldest of them could have been counted, the open ones aside.",
        (
            Panel("Rollups", "Age of the oldest dirty bucket", "s",
                  (("max by (level) (telemetry_rollups_oldest_seconds)", "{{level}}"),)),
        ),
        asked=True,
    ),
    # --- health ---
    Metric(
        "telemetry_check_ok", GAUGE, ("check",), "",
        "1 where a check of /readyz is ok, 0 where it isn't or doesn't answer.",
        (
            Panel("Health", "Checks", "bool_yes_no",
                  (("min by (check) (telemetry_check_ok)", "{{check}}"),)),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_disk_free_bytes", GAUGE, (), "bytes",
        "Free space on the disk of the data folder.",
        (
            Panel("Health", "Disk", "bytes",
                  (("telemetry_disk_free_bytes", "free {{instance}}"),
                   ("telemetry_disk_size_bytes", "size {{instance}}"))),
        ),
        asked=True,
    ),
    Metric(
        "telemetry_disk_size_bytes", GAUGE, (), "bytes",
        "Size of that disk.",
        asked=True,
    ),
)  # fmt: skip
METRICS = {metric.name: metric for metric in _ALL}
