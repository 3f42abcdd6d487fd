"""Notices when batches wait and nobody stores them.

A worker can look alive and take nothing (a Celery consumer that lost its broker and never came
back). The ledger shows it: the same batch stays the oldest one waiting.
"""

import threading
import time

from celery.exceptions import OperationalError
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction

from telemetry_site.celery import broker_connection

CHECK_SECONDS = 5.0
BROKER_SECONDS = 1
# The order of the index of waiting batches. In a paused queue nothing is late.
OLDEST_WAITING = """
    SELECT id, received_at < now() - make_interval(secs => %s)
      FROM ingest_batch
     WHERE state = 'received'
       AND NOT EXISTS (SELECT FROM telemetry_site_pause WHERE queue = 'ingest')
     ORDER BY day, id
     LIMIT 1
"""


class BacklogWatch:
    """Says when the worker of the ledger should be started anew.

    The database is asked by a thread: one that hangs (frozen, or a server's orphan that waits for
    what died with its parent) mustn't hang the supervisor, who alone can end it.
    """

    def __init__(self) -> None:
        self._next_check = 0.0
        self._thread: threading.Thread | None = None
        self._suspect: object = None
        self._since = 0.0
        self._stuck = False

    def is_stuck(self) -> bool:
        """True, once, when the oldest batch has been late, and the same one, for the alarm's time.

        Returns at once; a database that doesn't answer is no alarm.
        """
        now = time.monotonic()
        if now >= self._next_check and not (self._thread and self._thread.is_alive()):
            self._next_check = now + CHECK_SECONDS
            self._thread = threading.Thread(target=self._look, name="backlog", daemon=True)
            self._thread.start()
        stuck, self._stuck = self._stuck, False
        return stuck

    def _look(self) -> None:
        late, now = _late_batch(), time.monotonic()
        if late is None or late != self._suspect:
            self._suspect, self._since = late, now
        elif now - self._since >= settings.BACKLOG_ALARM_SECONDS and _broker_answers():
            self._suspect, self._stuck = None, True


def _late_batch() -> object:
    """The id of the oldest waiting batch, if it waits for longer than it should."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '1s'")
            cursor.execute(OLDEST_WAITING, [settings.BACKLOG_ALARM_SECONDS])
            batch, late = cursor.fetchone() or (None, False)
            return batch if late else None
    except (DatabaseError, InterfaceError):
        return None
    finally:
        connection.close()  # the thread's own


def _broker_answers() -> bool:
    try:
        # One with short timeouts: a broker that hangs mustn't hang the supervisor.
        with broker_connection() as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_SECONDS)
    except (OperationalError, OSError):
        return False
    return True
