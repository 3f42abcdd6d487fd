"""Celery beat over django-celery-beat's tables, of which one process runs at a time."""

import logging
import os
import socket
from typing import Any

from django.db import DatabaseError, InterfaceError, close_old_connections
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from telemetry_site.celery import SCHEDULES
from telemetry_site.models import Lease

logger = logging.getLogger(__name__)

LEASE = "beat"
LEASE_SECONDS = 15.0
TICK_SECONDS = 5.0


def seed_schedules() -> None:
    """Write the schedule's defaults where they are missing; what operators changed stays."""
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
        super().__init__(*args, **kwargs)
        self.max_interval = TICK_SECONDS

    def setup_schedule(self) -> None:
        seed_schedules()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Run what is due; seconds until the next look."""
        try:
            close_old_connections()
            self._lead(Lease.objects.take(LEASE, self.holder, LEASE_SECONDS))
            if not self.leading:
                return TICK_SECONDS
            return min(float(super().tick(*args, **kwargs)), TICK_SECONDS)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("beat waits for the database: %s", error)
            return TICK_SECONDS

    def _lead(self, leading: bool) -> None:
        if leading != self.leading:
            logger.info("beat %s", "runs the schedules" if leading else "waits: another beat runs")
        self.leading = leading

    def close(self) -> None:
        super().close()
        Lease.objects.release(LEASE, self.holder)
