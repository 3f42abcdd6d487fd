"""Celery's way in: what is left when the time is over waits for the schedule's next run."""

import logging
import time

from aggregation import releases, retention, rollups
from aggregation.models import Level
from telemetry_site.celery import app
from telemetry_site.errors import DATABASE_ERRORS
from telemetry_site.logs import kind

logger = logging.getLogger(__name__)

HOURS_SECONDS = 45
DAYS_SECONDS = 240
RETENTION_SECONDS = 600
RELEASE_SECONDS = 600


# One hour of many events may take far longer than all others.
@app.task(soft_time_limit=1800, time_limit=1830)
def roll_up_hours() -> None:
    """Make the hours that are dirty."""
    _roll_up((Level.HOUR,), HOURS_SECONDS)


@app.task(soft_time_limit=1800, time_limit=1830)
def roll_up_days() -> None:
    """Make the days that are dirty, and the months."""
    _roll_up((Level.DAY, Level.MONTH), DAYS_SECONDS)


@app.task(soft_time_limit=900, time_limit=930)
def apply_retention() -> None:
    """Delete and seal what is past its time, other than partitions; the next run does the rest."""
    deadline = time.monotonic() + RETENTION_SECONDS
    for done in retention.apply():
        logger.debug("%s", done)
        if time.monotonic() > deadline:
            break


@app.task(soft_time_limit=1800, time_limit=1830)
def release_days() -> None:
    """Draw the days of private mode that are due; the next run does the rest."""
    deadline = time.monotonic() + RELEASE_SECONDS
    for due in releases.release():
        logger.info("a day of private mode drawn: %s", due.day)
        if time.monotonic() > deadline:
            break


def _roll_up(levels: tuple[Level, ...], seconds: float) -> None:
    try:
        rollups.roll_up(levels, seconds)
    except DATABASE_ERRORS as error:
        # What is dirty stays so.
        logger.warning("rollups wait: %s", kind(error))
