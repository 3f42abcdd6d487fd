"""What is asked when somebody scrapes: ledger, queues, partitions, disk, each check of /readyz.

A scrape never hurts, nor does it hang: figures are kept for some seconds, one request asks at a
time and for so long, and nothing is counted without a bound. What isn't told in time is left out.
"""

import logging
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import closing, contextmanager
from datetime import timedelta

from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import Count, Min
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from aggregation import marks
from ingest import backlog, partitions
from ingest.forwarding import backlog as outbox
from privacy.models import DeletionRequest, ExportRequest
from telemetry_site import presence, queues
from telemetry_site.celery import BROKER_ERRORS, QUEUES
from telemetry_site.checks import Finding, examine
from telemetry_site.errors import DATABASE_ERRORS
from telemetry_site.models import Pause
from telemetry_site.monitoring import slots
from telemetry_site.monitoring.table import METRICS
from telemetry_site.redis_client import redis_client

logger = logging.getLogger(__name__)

KEPT_SECONDS = 5.0
# For the database's figures, once it has answered to its check.
PATIENCE_SECONDS = 2.0

# Name of a metric, the values of its labels, its value.
Figure = tuple[str, tuple[str, ...], float]


def _ledger() -> list[Figure]:
    found = backlog.look()
    age = (timezone.now() - found.oldest).total_seconds() if found.oldest else 0.0
    return [
        ("telemetry_waiting_oldest_seconds", (), max(0.0, age)),
        ("telemetry_waiting_batches", (), found.waiting),
        ("telemetry_dead_batches", (), found.dead),
    ]


def _outbox() -> list[Figure]:
    found = outbox.look().values()
    oldest = min((one.oldest for one in found if one.oldest), default=None)
    age = (timezone.now() - oldest).total_seconds() if oldest else 0.0
    return [
        ("telemetry_deliveries_waiting", (), sum(one.waiting for one in found)),
        ("telemetry_deliveries_oldest_seconds", (), max(0.0, age)),
        ("telemetry_deliveries_undelivered", (), sum(one.undelivered for one in found)),
        ("telemetry_destinations_failing", (), sum(one.is_failing for one in found)),
    ]


def _erasures() -> list[Figure]:
    requests = DeletionRequest.objects
    return [
        ("telemetry_erasures_due", (), requests.due().count()),
        ("telemetry_erasures_overdue", (), requests.overdue().count()),
        ("telemetry_erasures_failed", (), requests.failed().count()),
    ]


def _exports() -> list[Figure]:
    now = timezone.now()
    waiting = ExportRequest.objects.filter(state__in=ExportRequest.OPEN)
    found = waiting.aggregate(count=Count("pk"), oldest=Min("requested_at"))
    age = (now - found["oldest"]).total_seconds() if found["oldest"] else 0.0
    failed = ExportRequest.objects.filter(
        state=ExportRequest.State.FAILED, finished_at__gt=now - timedelta(days=1)
    )
    return [
        ("telemetry_exports_waiting", (), found["count"]),
        ("telemetry_exports_oldest_seconds", (), max(0.0, age)),
        ("telemetry_exports_failed", (), failed.count()),
    ]


def _rollups() -> list[Figure]:
    found: list[Figure] = []
    for level, waiting in marks.backlog().items():
        name = level.name.lower()
        found += [
            ("telemetry_rollups_dirty", (name,), waiting.buckets),
            ("telemetry_rollups_oldest_seconds", (name,), waiting.seconds),
        ]
    return found


def _pauses() -> list[Figure]:
    paused = set(Pause.objects.values_list("pk", flat=True))
    return [("telemetry_queue_paused", (name,), name in paused) for name in QUEUES]


def _queues() -> list[Figure]:
    now = time.time()
    with closing(redis_client()) as client:
        workers = [worker for worker in presence.workers(client) if not worker.is_gone]
    found: list[Figure] = []
    for name, queue in queues.look().items():
        its = [worker for worker in workers if name in worker.queues]
        sent_at = queue.oldest[0].sent_at if queue.oldest else None
        age = max(0.0, now - sent_at) if sent_at else 0.0
        running = sum(len(worker.running) for worker in its)
        found += [
            ("telemetry_queue_waiting_tasks", (name,), queue.waiting),
            ("telemetry_queue_oldest_seconds", (name,), age),
            ("telemetry_queue_running_tasks", (name,), running),
            ("telemetry_queue_workers", (name,), len(its)),
        ]
    return found


def _partitions() -> list[Figure]:
    attached = partitions.attached_days()
    today = timezone.now().date()
    found: list[Figure] = []
    for table, days in attached.items():
        ahead = 0
        while today + timedelta(days=ahead) in days:
            ahead += 1
        found.append(("telemetry_partitions", (table,), len(days)))
        found.append(("telemetry_partition_days_ahead", (table,), ahead))
    return found


def _disk() -> list[Figure]:
    usage = shutil.disk_usage(settings.DATA_DIR)
    return [
        ("telemetry_disk_free_bytes", (), usage.free),
        ("telemetry_disk_size_bytes", (), usage.total),
    ]


def _checks(findings: Mapping[str, Finding]) -> list[Figure]:
    return [("telemetry_check_ok", (name,), found.ok) for name, found in findings.items()]


@contextmanager
def _short_statements() -> Iterator[None]:
    """A transaction in which no statement takes longer than a second."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '1s'")
        yield


class _Asker:
    """Asks when somebody scrapes, and keeps what it was told for some seconds.

    The database is asked by a thread of its own: should it freeze in between, that is what hangs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, "figures")
        self._under_way: Future[list[Figure]] | None = None
        self._found: list[Figure] = []
        self._kept_until = 0.0

    def figures(self) -> list[Figure]:
        with self._lock:
            if time.monotonic() >= self._kept_until:
                findings = examine()
                self._found = [*_disk(), *_checks(findings)]
                if findings["database"].ok:
                    self._found += self._of_the_database()
                if findings["broker"].ok:
                    self._found += _ask_the_broker()
                self._kept_until = time.monotonic() + KEPT_SECONDS
            return self._found

    def _of_the_database(self) -> list[Figure]:
        if self._under_way is None or self._under_way.done():
            self._under_way = self._executor.submit(_ask_the_database)
        try:
            return self._under_way.result(PATIENCE_SECONDS)
        except (FutureTimeoutError, *DATABASE_ERRORS) as error:
            logger.warning("the database tells no figures: %s", type(error).__name__)
            return []


def _ask_the_database() -> list[Figure]:
    close_old_connections()
    with _short_statements():
        asked = (_ledger, _outbox, _partitions, _pauses, _erasures, _exports, _rollups)
        return [figure for ask in asked for figure in ask()]


def _ask_the_broker() -> list[Figure]:
    """Bounded by the broker's own timeouts."""
    try:
        return _queues()
    except BROKER_ERRORS as error:
        logger.warning("the broker tells no figures: %s", type(error).__name__)
        return []


_asker = _Asker()


def everything() -> list[Metric]:
    """All metrics there are now, in the table's order: what was counted, and what is asked."""
    counted = MultiProcessCollector.merge(slots.files(settings.METRICS_DIR))
    found = {_name(metric): metric for metric in counted}
    for name, labels, value in _asker.figures():
        if name not in found:
            found[name] = GaugeMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)
        found[name].add_metric(labels, value)
    return [found[name] for name in METRICS if name in found]


def _name(metric: Metric) -> str:
    """As the table has it: a counter's is kept without its ending."""
    return f"{metric.name}_total" if metric.type == "counter" else metric.name
