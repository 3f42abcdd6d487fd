"""Which database questions and exports are read from: the replica, once it is as new as they are.

A replica lags, and can't tell by how much: an event that was counted since, or a person who was
suppressed since, is unknown to it, and so is that it doesn't know. So whoever reads asks the
primary how far it has come, and reads from the replica only when it has replayed that; else from
the primary. No answer is older than its question.
"""

import logging
import threading
import time

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections

logger = logging.getLogger(__name__)

REPLICA = "replica"
# How long it may take to catch up with a question.
PATIENCE_SECONDS = 0.25
_PAUSE_SECONDS = 0.005
# For so long nobody waits again for one that can't be read from.
LEFT_ALONE_SECONDS = 10.0
_BEHIND = "it lags behind"


class _Choice:
    """What this process knows of the replica."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trouble = ""
        self._not_before = 0.0

    @property
    def is_left_alone(self) -> bool:
        return time.monotonic() < self._not_before

    def note(self, trouble: str) -> None:
        """Keep why it can't be read from, and tell it once."""
        with self._lock:
            if trouble:
                self._not_before = time.monotonic() + LEFT_ALONE_SECONDS
            if trouble != self._trouble:
                self._trouble = trouble
                logger.warning("the replica is %s", f"left alone: {trouble}" if trouble else "read")


_choice = _Choice()


def reader() -> str:
    """The alias of the database to read from: it has all that is committed by now."""
    if not is_configured() or _choice.is_left_alone:
        return DEFAULT_DB_ALIAS
    found = trouble()
    _choice.note(found)
    return DEFAULT_DB_ALIAS if found else REPLICA


def is_configured() -> bool:
    """Whether there is a replica at all."""
    return REPLICA in settings.DATABASES


def trouble() -> str:
    """Why the replica can't be read from; empty where it has all that is committed by now."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(_REACHED)
        reached, system, timeline = cursor.fetchone()
    given: dict[str, str | int] = {"reached": reached, "system": system, "timeline": timeline}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := _compared(given)) == _BEHIND and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    return found


def _compared(given: dict[str, str | int]) -> str:
    replica = connections[REPLICA]
    try:
        with replica.cursor() as cursor:
            cursor.execute(_REPLAYED, given)
            follows, replayed = cursor.fetchone()
    except Error as error:
        replica.close()
        return f"it does not answer ({type(error).__name__})"
    if not follows:
        return "it does not follow the database"
    return "" if replayed else _BEHIND


# What is visible on the primary is flushed. The timeline changes when another server takes over.
_REACHED = """
    SELECT pg_current_wal_flush_lsn()::text, system_identifier,
        ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int
    FROM pg_control_system()
"""
_REPLAYED = """
    SELECT pg_is_in_recovery() AND system_identifier = %(system)s AND timeline_id = %(timeline)s,
        coalesce(pg_last_wal_replay_lsn() >= %(reached)s::pg_lsn, false)
    FROM pg_control_system(), pg_control_checkpoint()
"""
