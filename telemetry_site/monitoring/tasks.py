"""How Celery's tasks end, and how long they ran. Loaded by the Celery application.

Of those killed over their time limit the pool's parent tells: `telemetry_site/workers.py`.
"""

import time
from typing import Any

from celery import states
from celery.signals import task_postrun, task_prerun, task_revoked

from telemetry_site.monitoring import instruments

OUTCOMES = {
    states.SUCCESS: "succeeded",
    states.FAILURE: "failed",
    states.RETRY: "retried",
    states.IGNORED: "ignored",
    states.REJECTED: "rejected",
}


class _Running:
    """The task that runs in this process of the pool: there is one at a time."""

    since = 0.0


@task_prerun.connect
def _began(**_: Any) -> None:
    _Running.since = time.perf_counter()


@task_postrun.connect
def _ended(sender: Any, state: str | None, **_: Any) -> None:
    instruments.task_seconds(sender.name).observe(time.perf_counter() - _Running.since)
    # It has no state where its process is told to end.
    if outcome := OUTCOMES.get(state or ""):
        instruments.tasks(sender.name, outcome).inc()


@task_revoked.connect
def _revoked(sender: Any, expired: bool, **_: Any) -> None:
    instruments.tasks(sender.name, "expired" if expired else "revoked").inc()
