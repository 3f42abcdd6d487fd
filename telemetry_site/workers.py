"""What our workers do beside Celery's own: obey pauses, say what they do, stop a task when asked.

All of it in the worker's main process, in its event loop: nothing here may wait for long.
"""

import contextlib
import os
import signal
import time
from collections import Counter
from typing import Any

from celery import bootsteps
from celery.signals import worker_shutdown
from celery.worker import state
from celery.worker.control import control_command
from celery.worker.request import Request
from django.db import connection

from telemetry_site import presence
from telemetry_site.celery import app
from telemetry_site.errors import DATABASE_ERRORS
from telemetry_site.models import Pause
from telemetry_site.monitoring import instruments
from telemetry_site.redis_client import REDIS_ERRORS, redis_client

_failed: Counter[str] = Counter()


class CountedRequest(Request):
    """A task in a worker's hands that leaves a mark when it fails."""

    asked = 0.0
    _counted = False

    def on_failure(self, *args: Any, **options: Any) -> None:
        """It raised, or its process died."""
        self._count()
        super().on_failure(*args, **options)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """It ran for too long."""
        if not soft:
            self._count()
            instruments.tasks(self.name, "killed").inc()
        super().on_timeout(soft, timeout)

    def terminate(self, *args: Any, **options: Any) -> None:
        """Somebody had its process killed."""
        self._count()
        super().terminate(*args, **options)

    def _count(self) -> None:
        if self.time_start and not self._counted:
            self._counted = True
            _failed[self.name] += 1


class Presence(bootsteps.StartStopStep):
    """Obeys pauses and tells what the worker does, for as long as it is connected."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        consumer.presence = self
        self.worker: str = consumer.hostname
        self.queues = list(app.amqp.queues.consume_from)
        self._since = time.time()
        self._redis = redis_client()
        self._timers: list[Any] = []
        worker_shutdown.connect(self._leave, weak=False)

    def start(self, consumer: Any) -> None:
        """Before the first message is taken, and after each loss of the broker."""
        self.obey(consumer)
        self._timers = [
            consumer.timer.call_repeatedly(presence.OBEY_SECONDS, self.obey, (consumer,)),
            consumer.timer.call_repeatedly(presence.TELL_SECONDS, self.tell),
        ]
        self.tell()

    def stop(self, consumer: Any) -> None:
        """The broker was lost, or the worker ends."""
        for timer in self._timers:
            timer.cancel()

    def obey(self, consumer: Any) -> None:
        """Take messages from this worker's queues but the paused ones."""
        paused = _paused()
        if paused is None:
            return
        for queue in self.queues:
            works = queue in app.amqp.queues.consume_from
            if works and queue in paused:
                consumer.cancel_task_queue(queue)
            elif not works and queue not in paused:
                consumer.add_task_queue(queue)

    def tell(self) -> None:
        """Say what this worker does."""
        with contextlib.suppress(*REDIS_ERRORS):
            presence.tell(self._redis, self._said())

    def _said(self) -> presence.Worker:
        running = [
            presence.Running(request.id, request.name, request.time_start, request.asked)
            for request in state.active_requests
        ]
        under_way = Counter(task.task for task in running)
        return presence.Worker(
            name=self.worker,
            queues=self.queues,
            since=self._since,
            seen=time.time(),
            running=sorted(running, key=lambda task: task.since),
            done=Counter(state.total_count) - under_way - _failed,
            failed=_failed,
        )

    def _leave(self, **_: Any) -> None:
        with contextlib.suppress(*REDIS_ERRORS):
            presence.leave(self._redis, self.worker)


def _paused() -> set[str] | None:
    """The paused queues; None where the database doesn't answer."""
    try:
        return set(Pause.objects.values_list("pk", flat=True))
    except DATABASE_ERRORS:
        return None
    finally:
        # Not kept: an attempt to connect ends in bounded time, and no child inherits it.
        connection.close()


@control_command()
def obey_pauses(panel: Any) -> None:
    """A queue was paused or resumed."""
    panel.consumer.call_soon(panel.consumer.presence.obey, panel.consumer)


@control_command(args=[("task_id", str)])
def ask_to_stop(panel: Any, task_id: str) -> None:
    """Raise SoftTimeLimitExceeded in a task: it may tidy up, and no batch is blamed for it."""
    for request in state.active_requests:
        if request.id == task_id:
            request.asked = time.time()
            os.kill(request.worker_pid, signal.SIGUSR1)
