"""Celery's way in: each task calls one function, and leaves what is left to the next one."""

import logging

from ingest import erasing
from privacy import erasure, exports, restrictions
from telemetry_site.celery import app
from telemetry_site.errors import DATABASE_ERRORS
from telemetry_site.logs import kind

logger = logging.getLogger(__name__)

ERASE_SECONDS = 20
# After so long what is left gets a task of its own. One export may take far longer.
MAKE_SECONDS = 20
MOST_MAKE_SECONDS = 3300


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


@app.task(soft_time_limit=600, time_limit=630)
def erase_from_the_dead() -> None:
    """Take persons who are erased out of batches at which workers died."""
    erasing.erase_from_the_dead(restrictions.erased)


@app.task(soft_time_limit=MOST_MAKE_SECONDS, time_limit=MOST_MAKE_SECONDS + 60)
def make_exports() -> None:
    """Make the exports that wait. Sent when one is asked for; beat's run of it is the sweep."""
    try:
        if exports.make_waiting(MAKE_SECONDS):
            exports.nudge()
    except DATABASE_ERRORS as error:
        # What was begun begins again.
        logger.warning("exports wait: %s", kind(error))


@app.task
def expire_exports() -> None:
    """Delete export files whose time is over."""
    exports.expire()
