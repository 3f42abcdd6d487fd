"""Celery's way in: each task fetches, calls, and decides about another try."""

import logging
import time

from django.db import connection

from ingest import partitions, resolutions, storage, violations
from ingest.nudges import FORWARD, STORE, forward_nudger, nudger
from telemetry_site.celery import app
from telemetry_site.errors import DATABASE_ERRORS
from telemetry_site.logs import kind
from telemetry_site.models import Lease, Pause
from telemetry_site.redis_client import REDIS_ERRORS

logger = logging.getLogger(__name__)

# One task stores for so long; what is left then gets a task of its own, so that time limits and
# restarts find an end to each.
STORE_SECONDS = 20
RESOLVE_SECONDS = 20
# Then what is under way is waited for: as long as a request may take.
FORWARD_SECONDS = 20
# Renewed by each run, nudged or scheduled: what /readyz calls a live worker.
WORKER_LEASE = "ingest worker"
WORKER_LEASE_SECONDS = 45
CLAIMS_AT_ONCE = 5_000


@app.task
def store_batches() -> None:
    """Store what waits in the ledger. Nudged by intake; beat's run of it is the sweep."""
    nudger.clear()
    try:
        if _storing_paused():
            return
        Lease.objects.take(WORKER_LEASE, "ingest", WORKER_LEASE_SECONDS)
        if storage.store_waiting(STORE_SECONDS, _storing_paused):
            nudger.request()
    except DATABASE_ERRORS as error:
        # Nothing was changed, and the sweep comes again.
        logger.warning("storing pauses: %s", kind(error))


def _storing_paused() -> bool:
    return Pause.objects.hold(STORE.queue)


@app.task
def forward() -> None:
    """Send what waits in the outbox. Nudged by storing, and run by beat."""
    # Here, so that of all workers this one alone has an HTTP client and OpenTelemetry's messages.
    from ingest.forwarding import forwarder

    # What is stored meanwhile shares a request.
    time.sleep(forwarder.GATHER_SECONDS)
    forward_nudger.clear()
    try:
        if forwarder.forward(FORWARD_SECONDS, _forwarding_paused):
            forward_nudger.request()
    except DATABASE_ERRORS as error:
        # What was claimed waits for the end of its lease.
        logger.warning("forwarding pauses: %s", kind(error))


def _forwarding_paused() -> bool:
    return Pause.objects.hold(FORWARD.queue)


@app.task
def maintain_partitions() -> None:
    """Make days ahead, drop days past their retention."""
    partitions.maintain()


@app.task
def flush_violations() -> None:
    """Write down who was refused by which limit."""
    try:
        violations.flush()
    except REDIS_ERRORS as error:
        # What was counted stays there for a day.
        logger.warning("violations are not written down: %s", type(error).__name__)


@app.task
def expire_claims() -> None:
    """Forget batch ids and contents past their window, in chunks that lock little.

    And attempts of yesterday: the batches they name were settled without anybody asking.
    """
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM ingest_attempt WHERE started_at < now() - interval '1 day'")
        while True:
            cursor.execute(
                """
                DELETE FROM ingest_batchclaim WHERE (project_id, key) IN (
                    SELECT project_id, key FROM ingest_batchclaim
                    WHERE expires_at < now() ORDER BY expires_at LIMIT %s
                    FOR UPDATE SKIP LOCKED
                )
                """,
                [CLAIMS_AT_ONCE],
            )
            if cursor.rowcount < CLAIMS_AT_ONCE:
                return


@app.task
def resolve_dead() -> None:
    """Go on with what an operator decided about dead batches. Sent when it is decided, and by
    beat: what a killed worker left is taken up."""
    try:
        if resolutions.go_on(RESOLVE_SECONDS):
            resolve_dead.delay()
    except DATABASE_ERRORS as error:
        # The chunk was never done, and beat comes again.
        logger.warning("dead batches wait: %s", " ".join(str(error).split()))
