"""Celery beat over django-celery-beat's tables, of which one process runs at a time."""

import logging
import os
import socket
from typing import Any

from django.db import DatabaseError, InterfaceError, close_old_connections, connection, transaction
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from telemetry_site.celery import SCHEDULES
from telemetry_site.logs import kind
from telemetry_site.models import Lease

logger = logging.getLogger(__name__)

LEASE = "beat"
LEASE_SECONDS = 15.0
TICK_SECONDS = 5.0
_SEEDING = 0x5EED  # any number, as long as nothing else locks it in this database


@transaction.atomic
def seed_schedules() -> None:
    """Write the schedule's defaults where they are missing; what operators changed stays."""
    with connection.cursor() as cursor:
        # Of two beats that start at once on an empty database each would make all of them, and of
        # equal intervals, which nothing forbids, no later start could tell which one it means.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SEEDING])
    for schedule in SCHEDULES:
        interval, _ = IntervalSchedule.objects.get_or_create(
            every=schedule.seconds, period=IntervalSchedule.SECONDS
        )
        PeriodicTask.objects.get_or_create(
            name=schedule.name,
            defaults={
                "task": schedule.task,
                "interval": interval,
                "queue": schedule.queue,
                "description": schedule.purpose,
                # None pile up while no worker runs.
                "expire_seconds": schedule.seconds,
            },
        )


class SingleScheduler(DatabaseScheduler):  # type: ignore[misc]
    """Runs schedules while it holds the lease; a second beat waits for the first one's to end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.leading = False
        self._busy = False
        super().__init__(*args, **kwargs)
        self.max_interval = TICK_SECONDS

    def setup_schedule(self) -> None:
        seed_schedules()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Run what is due; seconds until the next look."""
        self._busy = True
        try:
            close_old_connections()
            self._lead(Lease.objects.take(LEASE, self.holder, LEASE_SECONDS))
            if not self.leading:
                return TICK_SECONDS
            return min(float(super().tick(*args, **kwargs)), TICK_SECONDS)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("beat waits for the database: %s", kind(error))
            return TICK_SECONDS
        finally:
            self._busy = False

    def _lead(self, leading: bool) -> None:
        if leading != self.leading:
            logger.info("beat %s", "runs the schedules" if leading else "waits: another beat runs")
        self.leading = leading

    def _do_sync(self) -> None:
        self._busy = True
        try:
            super()._do_sync()
        finally:
            self._busy = False

    def close(self) -> None:
        """Write down what ran, and give the lease back.

        Celery's handler of SIGTERM calls this in the midst of whatever runs, then raises
        SystemExit; on the way out it is called again. A statement on a connection that is at work
        on another would wait for it for ever: the first call must not touch the database then.
        """
        if self._busy:
            return
        connection.close()  # it may have been left in the midst of a statement
        try:
            super().close()
            Lease.objects.release(LEASE, self.holder)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("beat ends without the database: %s", kind(error))
