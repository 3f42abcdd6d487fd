"""What the service leans on, as one table: how each thing is, and what to do about it.

`/readyz`, the metrics and the admin's first page show what these checks find; the runbook in
docs/operations.md has an entry for each.
"""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import close_old_connections, connection
from django.utils import timezone

from aggregation import marks
from aggregation.models import Level
from ingest import backlog, partitions
from ingest.forwarding import destinations
from ingest.nudges import STORE
from ingest.tasks import WORKER_LEASE
from privacy.models import DeletionRequest
from telemetry_site import replica
from telemetry_site.beat import LEASE as BEAT_LEASE
from telemetry_site.errors import DATABASE_ERRORS
from telemetry_site.models import Lease, Pause
from telemetry_site.redis_client import REDIS_ERRORS, redis_client

# Whoever asks waits no longer; a database that hangs would keep a load balancer waiting for ever.
PATIENCE_SECONDS = 3.0
# Days of each table that must be there already: made a week ahead, hourly.
DAYS_NEEDED = 2
# An erasure that is due for longer is late.
ERASURE_LATE = timedelta(hours=1)
# A rollup that could have been made for so long is late. Days and months are looked at every 15
# minutes, and wait for their hours before.
ROLLUPS_LATE = {
    Level.HOUR: timedelta(minutes=15),
    Level.DAY: timedelta(minutes=45),
    Level.MONTH: timedelta(minutes=45),
}
# A delivery that waits for longer is late.
FORWARDING_LATE = timedelta(minutes=15)
# So many batches before the oldest waiting one tell whether storing goes on.
_STORED_BEFORE = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: fine or not, a sentence, and whether batches are still accepted.

    `action` where something else is to be done than the check says.
    """

    ok: bool
    detail: str
    accepting: bool = True
    action: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at, and what an operator does when it isn't well."""

    look: Callable[[], Finding]
    action: str


def _disk() -> Finding:
    free = shutil.disk_usage(settings.DATA_DIR).free
    told = f"{free // 1024**2} MB free"
    if free < settings.MIN_FREE_DISK_BYTES:
        return Finding(False, f"{told}; nothing is accepted", accepting=False)
    return Finding(free >= settings.DISK_ALARM_BYTES, told)


def _broker() -> Finding:
    client = redis_client()
    try:
        client.ping()
    except REDIS_ERRORS as error:
        return Finding(False, f"does not answer ({type(error).__name__}); storing pauses")
    finally:
        client.close()
    return Finding(True, "answers")


def _database() -> Finding:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DATABASE_ERRORS as error:
        return Finding(False, f"does not answer ({type(error).__name__})", accepting=False)
    return Finding(True, "answers")


def _partitions() -> Finding:
    today = timezone.now().date()
    days = [today + timedelta(days=ahead) for ahead in range(DAYS_NEEDED + 1)]
    if missing := partitions.missing(days):
        return Finding(False, f"missing: {', '.join(missing)}")
    return Finding(True, f"there until {days[-1]} at least")


def _backlog() -> Finding:
    age = backlog.age()
    if age is None:
        return Finding(True, "nothing waits")
    detail = f"the oldest batch waits {age:.0f} s"
    if age < settings.BACKLOG_ALARM_SECONDS:
        return Finding(True, detail)
    return Finding(False, "; ".join(filter(None, [detail, _pause()])))


def _storing() -> Finding:
    age = backlog.age()
    if age is None or age < settings.BACKLOG_ALARM_SECONDS:
        return Finding(True, "keeps up")
    if pause := _pause():
        return Finding(True, pause)
    stored_at = _last_stored_before_the_backlog()
    idle = (timezone.now() - stored_at).total_seconds() if stored_at else age
    ok = idle < settings.BACKLOG_ALARM_SECONDS
    return Finding(ok, f"the last batch was stored {idle:.0f} s ago")


def _pause() -> str:
    """That the ledger's queue is paused, in words for anybody: who and why is the admin's."""
    pause = Pause.objects.filter(pk=STORE.queue).first()
    if pause is None:
        return ""
    return f"paused since {pause.since:%Y-%m-%dT%H:%M:%SZ}"


def _erasures() -> Finding:
    """Whether persons are erased in time."""
    failed = DeletionRequest.objects.failed().count()
    late = DeletionRequest.objects.due(timezone.now() - ERASURE_LATE).count()
    overdue = DeletionRequest.objects.overdue().count()
    if failed or late or overdue:
        return Finding(False, f"{failed} failed, {late} late, {overdue} past their 30 days")
    return Finding(True, "none is late")


def _rollups() -> Finding:
    """Whether what is stored is counted in time."""
    found = marks.backlog()
    late = [
        f"{level.name.lower()}s: {found[level].buckets:,} dirty, for {found[level].seconds:.0f} s"
        for level, patience in ROLLUPS_LATE.items()
        if found[level].seconds > patience.total_seconds()
    ]
    return Finding(not late, "; ".join(late) or "none is late")


def _forwarding() -> Finding:
    """Whether what is forwarded arrives in time."""
    late = timezone.now() - FORWARDING_LATE
    # What goes nowhere any more isn't waited for: it expires.
    waiting = [queue for queue in destinations.queues() if queue.endpoint and queue.oldest < late]
    if not waiting:
        return Finding(True, "none is late")
    failing = {queue.destination for queue in waiting if queue.failures}
    oldest = (timezone.now() - min(queue.oldest for queue in waiting)).total_seconds()
    told = f"the oldest delivery waits {oldest:.0f} s; collectors that don't answer: {len(failing)}"
    return Finding(False, told)


def _replica() -> Finding:
    if not replica.is_configured():
        return Finding(True, "none is set")
    trouble = replica.trouble()
    return Finding(not trouble, trouble or "is as new as what is asked")


def _worker() -> Finding:
    if pause := _pause():
        return Finding(
            False, pause, action="Resume it in Queues in the admin, once its reason is gone."
        )
    return _lease(WORKER_LEASE, "runs")


def _beat() -> Finding:
    return _lease(BEAT_LEASE, "runs the schedules")


def _lease(name: str, alive: str) -> Finding:
    lease = Lease.objects.filter(name=name).first()
    if lease is None:
        return Finding(False, "has not run yet")
    if lease.until < timezone.now():
        return Finding(False, f"not seen since {lease.until:%Y-%m-%dT%H:%M:%SZ}")
    return Finding(True, alive)


# Batches are stored in the order they came: those just before the oldest one that waits were
# stored last. By the primary key.
_LAST_STORED = """
    SELECT max(stored_at) FROM (
        SELECT before.stored_at
          FROM (SELECT day, id FROM ingest_batch WHERE state = 'received'
                 ORDER BY day, id LIMIT 1) AS oldest,
               LATERAL (SELECT stored_at FROM ingest_batch
                         WHERE (day, id) < (oldest.day, oldest.id)
                         ORDER BY day DESC, id DESC LIMIT %s) AS before
    ) AS latest
"""


def _last_stored_before_the_backlog() -> datetime | None:
    with connection.cursor() as cursor:
        cursor.execute(_LAST_STORED, [_STORED_BEFORE])
        stored_at: datetime | None = cursor.fetchone()[0]
        return stored_at


# Those that ask no database come first: they are told even when it hangs.
CHECKS: dict[str, Check] = {
    "disk": Check(
        _disk,
        "Free or add space on the disk of the data folder, or shorten a retention.",
    ),
    "broker": Check(
        _broker,
        "Bring Redis back. Batches are accepted meanwhile, and stored within 15 s of its return.",
    ),
    "database": Check(
        _database,
        "Bring PostgreSQL back. Clients are told to come again; nothing here needs a restart.",
    ),
    "partitions": Check(
        _partitions,
        "Run the schedule “maintain partitions”, and look why it does not run by itself.",
    ),
    "backlog": Check(
        _backlog,
        "If storing keeps up no more, raise TELEMETRY_INGEST_WORKERS.",
    ),
    "storing": Check(
        _storing,
        "A worker runs and takes nothing: restart it (up does so by itself), and read its log.",
    ),
    "worker": Check(
        _worker,
        "Look for “ingest” in the log; up starts it again.",
    ),
    "beat": Check(
        _beat,
        "Look for “beat” in the log; up starts it again. Another one's lease ends after 15 s.",
    ),
    "erasures": Check(
        _erasures,
        "The request in the admin says why it failed; one that is late wants a worker of the "
        "queue “privacy”.",
    ),
    "rollups": Check(
        _rollups,
        "Look for “rollup” in the log, and in Queues whether its worker runs. After an import or a "
        "new version it has much to do: it catches up, the oldest first.",
    ),
    "forwarding": Check(
        _forwarding,
        "A delivery in the admin says what its collector answered. Where all do, look for "
        "“forward” in the log, and in Queues whether its worker runs.",
    ),
    "replica": Check(
        _replica,
        "Bring the replica back, or take DATABASE_REPLICA_URL away. Questions and exports are read "
        "from the database itself meanwhile.",
    ),
}


class _Examiner:
    """Looks at everything in a thread of its own, once for all who ask at the same time.

    So a server that is frozen holds up one thread and one connection, and nobody who asks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, "checks")
        self._under_way: Future[None] | None = None
        self._findings: dict[str, Finding] = {}

    def ask(self) -> dict[str, Finding]:
        with self._lock:
            if self._under_way is None or self._under_way.done():
                self._findings = {}
                self._under_way = self._executor.submit(_look_at_all, self._findings)
            under_way, findings = self._under_way, self._findings
        with suppress(FutureTimeoutError):
            under_way.result(PATIENCE_SECONDS)
        return {name: findings.get(name, _unanswered(name)) for name in CHECKS}


def _look_at_all(findings: dict[str, Finding]) -> None:
    close_old_connections()
    for name, check in CHECKS.items():
        findings[name] = _look(check)


def _look(check: Check) -> Finding:
    try:
        return check.look()
    except DATABASE_ERRORS as error:
        return Finding(False, f"the database does not answer ({type(error).__name__})")


def _unanswered(name: str) -> Finding:
    detail = f"no answer within {PATIENCE_SECONDS:.0f} s"
    return Finding(False, detail, accepting=name != "database")


_examiner = _Examiner()


def examine() -> dict[str, Finding]:
    """What each check finds now, by name. Takes three seconds at the most."""
    return _examiner.ask()
