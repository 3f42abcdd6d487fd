"""Celery's way in: each task calls one function, and leaves what is left to the next one."""

import logging

from privacy import erasure
from telemetry_site.celery import app
from telemetry_site.logs import kind

logger = logging.getLogger(__name__)

ERASE_SECONDS = 20


# Looking for a person in a project's payloads has no end in between.
@app.task(soft_time_limit=600, time_limit=630)
def run_due_deletions() -> None:
    """Erase the persons whose requests are due. Sent when somebody asks for it at once, and by
    beat: what a killed worker left is taken up."""
    try:
        if erasure.run_due(ERASE_SECONDS):
            run_due_deletions.delay()
    except erasure.PASSING as error:
        # What is erased stays so, and beat comes again.
        logger.warning("erasing pauses: %s", kind(error))
