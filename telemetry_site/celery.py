"""The Celery application: queues, task defaults, and the whole beat schedule as one table."""

import os
import time
from dataclasses import dataclass
from typing import Any

import kombu
from celery import Celery, Task
from celery.app.amqp import AMQP
from celery.signals import before_task_publish, worker_process_init
from django.conf import settings
from django.db import close_old_connections

import telemetry_site.monitoring.tasks  # noqa: F401 it listens to Celery's signals
from telemetry_site import collector, logs, priority
from telemetry_site.redis_client import REDIS_ERRORS

# Before the first look at a setting: `celery -A telemetry_site` starts here.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "telemetry_site.settings")

# Queue -> processes that work on it. Each queue has a worker of its own, so that a busy one never
# starves another. Of exports, which may take long, one is made at a time: erasures have the other
# process.
QUEUES: dict[str, int] = {
    "ingest": settings.INGEST_WORKERS,
    "default": 1,
    "privacy": 2,
    "rollup": 1,
    "forward": 1,
}

# The queue of work that nobody waits for and that takes long.
GIVING_WAY = "rollup"

# What the broker's client raises while the broker is away, frozen or out of memory.
BROKER_ERRORS = (*REDIS_ERRORS, kombu.exceptions.OperationalError)
# The header that says when a message was sent, in seconds since 1970.
SENT_AT = "sent_at"


@dataclass(frozen=True)
class Schedule:
    """One line of the beat schedule: what runs how often, and what for."""

    name: str
    task: str
    seconds: int
    purpose: str
    queue: str = "default"


# Seeded into django-celery-beat's tables once; what operators change there stays.
SCHEDULES = (
    Schedule(
        "sweep the ledger",
        "ingest.tasks.store_batches",
        10,
        "Stores what waits, should a nudge have been lost; shows that the worker lives.",
        queue="ingest",
    ),
    Schedule(
        "forward deliveries",
        "ingest.tasks.forward",
        10,
        "Sends what waits for collectors: what is to be tried again, or whose nudge was lost.",
        queue="forward",
    ),
    Schedule(
        "maintain partitions",
        "ingest.tasks.maintain_partitions",
        3600,
        "Makes the tables' days ahead of time and drops those past their retention.",
    ),
    Schedule(
        "flush violations",
        "ingest.tasks.flush_violations",
        10,
        "Writes down who was refused by which rate limit.",
    ),
    Schedule(
        "resolve dead batches",
        "ingest.tasks.resolve_dead",
        10,
        "Goes on with replaying or discarding many, should the worker have died at it.",
    ),
    Schedule(
        "expire claims",
        "ingest.tasks.expire_claims",
        3600,
        "Forgets batch ids after 31 days and the contents of batches after an hour.",
    ),
    Schedule(
        "run due deletions",
        "privacy.tasks.run_due_deletions",
        60,
        "Erases persons whose grace is over, and tries again hourly what failed.",
        queue="privacy",
    ),
    Schedule(
        "roll up hours",
        "aggregation.tasks.roll_up_hours",
        60,
        "Counts hours anew of which something was stored or erased.",
        queue="rollup",
    ),
    Schedule(
        "roll up days and months",
        "aggregation.tasks.roll_up_days",
        300,
        "Counts days and months anew of which an hour or a day has changed.",
        queue="rollup",
    ),
    Schedule(
        "release private days",
        "aggregation.tasks.release_days",
        600,
        "Draws the days that projects in private mode show, with noise.",
        queue="rollup",
    ),
    Schedule(
        "apply retention",
        "aggregation.tasks.apply_retention",
        3600,
        "Deletes what projects don't keep and old days, and seals months whose raw data is gone.",
        queue="rollup",
    ),
    Schedule(
        "erase from the dead",
        "privacy.tasks.erase_from_the_dead",
        3600,
        "Takes persons who are erased out of batches at which workers died since.",
        queue="privacy",
    ),
    Schedule(
        "make exports",
        "privacy.tasks.make_exports",
        60,
        "Makes the exports that wait, should a nudge have been lost or a worker have died.",
        queue="privacy",
    ),
    Schedule(
        "expire exports",
        "privacy.tasks.expire_exports",
        3600,
        "Deletes the files of exports whose time is over, and forgets whose they were.",
        queue="privacy",
    ),
)


class DatabaseTask(Task[Any, Any]):
    """A task that starts with connections that work.

    `CELERY_DB_REUSE_MAX` keeps them open between tasks, which cuts PostgreSQL's CPU to an eighth
    for small ones; then nobody but us closes one whose server has died.
    """

    Request = "telemetry_site.workers:CountedRequest"

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        close_old_connections()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with logs.about(task=self.name, task_id=self.request.id or ""):
            return super().__call__(*args, **kwargs)


class BrokerConnection(kombu.Connection):
    """A connection to the broker that is looked for every two seconds while it is away.

    A worker's pauses would grow to thirty, and no setting of Celery's reaches them.
    """

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        return super()._ensure_connection(*args, **{"interval_step": 0, **options})


class BrokerAMQP(AMQP):
    Connection = BrokerConnection


app = Celery("telemetry_site", task_cls=DatabaseTask, amqp=BrokerAMQP)
app.conf.update(
    CELERY_DB_REUSE_MAX=1_000_000,
    broker_url=settings.BROKER_URL,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # A nudge carries no data: one that is lost, or comes twice, costs nothing but time.
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_default_queue="default",
    task_create_missing_queues=False,
    task_queues={name: {} for name in QUEUES},
    task_soft_time_limit=60,
    task_time_limit=90,
    task_publish_retry=False,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    worker_max_memory_per_child=140_000,
    beat_scheduler="telemetry_site.beat:SingleScheduler",
    timezone="UTC",
)
app.autodiscover_tasks()
app.steps["consumer"].add("telemetry_site.workers:Presence")


@worker_process_init.connect
def _set_up_process(**_: Any) -> None:
    collector.tune()
    # Where processors are short accepting goes first: what is accepted can wait to be stored.
    os.nice(10)
    if GIVING_WAY in app.amqp.queues.consume_from:
        priority.give_way()


@before_task_publish.connect
def _stamp(headers: dict[str, Any], **_: Any) -> None:
    """Let a waiting message tell its age."""
    headers[SENT_AT] = time.time()


def broker_connection() -> kombu.Connection:
    """A connection to the broker on which a publish fails in bounded time."""
    return app.connection_for_write(
        transport_options={
            "socket_timeout": settings.REDIS_TIMEOUT_SECONDS,
            "socket_connect_timeout": settings.REDIS_TIMEOUT_SECONDS,
            # kombu would look for the broker again and again, two seconds between each.
            "max_retries": 0,
        }
    )
