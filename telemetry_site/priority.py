"""Work that gives way: where processors are short, those who send and ask go first."""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

# The least there is: a process gets what the others leave.
_NICE = 19
# Linux takes this one change at a time, ten a second, from who isn't root.
_TRIES, _PAUSE_SECONDS = 5, 0.11


def give_way() -> None:
    """Let this process wait for others, and what PostgreSQL does for it where it is our own."""
    _lower(os.getpid())
    if settings.EMBEDDED_POSTGRES:
        connection_created.connect(_lower_backend, weak=False)


def _lower_backend(connection: BaseDatabaseWrapper, **_: Any) -> None:
    _lower(connection.connection.info.backend_pid)


def _lower(pid: int) -> None:
    """A process that may not be touched, or is gone, stays as it is: this is a courtesy."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
        _lower_session(pid)


def _lower_session(pid: int) -> None:
    """Where Linux shares out time by sessions, a process is weighed within its own alone: the
    session has a weight beside it (sched(7), "The autogroup feature")."""
    weight = Path(f"/proc/{pid}/autogroup")
    if not weight.exists():
        return
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            weight.write_text(str(_NICE))
            return
        time.sleep(_PAUSE_SECONDS)
