"""Telling the workers that batches wait: coalesced, bounded in time, and never in a request's way.

A nudge is a Celery message that carries nothing. It is published by a thread of its own, so that no
request waits for Redis, be it slow, dead or frozen, and only while none is outstanding: a flag in
Redis says so, which the worker clears before it claims. Losing a nudge costs time, never data: the
schedule of its task makes up for it.
"""

import logging
import threading
import time
from dataclasses import dataclass

import kombu

from telemetry_site.celery import BROKER_ERRORS, app, broker_connection
from telemetry_site.monitoring import instruments
from telemetry_site.redis_client import redis_client

logger = logging.getLogger(__name__)

# While a nudge may still be on its way; a lost one is forgotten after this.
FLAG_SECONDS = 10
# A nudge that no worker took in this time is dropped from the queue: the schedule sends another.
EXPIRES_SECONDS = 30

# Requests of this long share a nudge.
_PAUSE_SECONDS = 0.02
# After a failure nothing is published for this long.
_BREAKER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Nudge:
    """A task that is told of its work; `flag` is in Redis while that is on its way."""

    task: str
    queue: str
    flag: str
    breaker: str  # as the metrics call it

    def publish(self, connection: kombu.Connection) -> None:
        """Send it, be one outstanding or not. Raises one of BROKER_ERRORS in bounded time."""
        app.send_task(
            self.task,
            queue=self.queue,
            expires=EXPIRES_SECONDS,
            connection=connection,
            retry=False,
        )


STORE = Nudge("ingest.tasks.store_batches", "ingest", "telemetry:nudged", "nudges")
FORWARD = Nudge(
    "ingest.tasks.forward", "forward", "telemetry:nudged-to-forward", "nudges_to_forward"
)


class Nudger:
    """One a process and task: takes requests from any thread, and publishes from its own."""

    def __init__(self, nudge: Nudge) -> None:
        self._message = nudge
        self._name = nudge.breaker
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._redis = redis_client()
        self._broker: kombu.Connection | None = None
        self._open = False
        self._breaker = instruments.breaker_open(nudge.breaker)

    def request(self) -> None:
        """Ask for a nudge. Returns at once."""
        if self._thread is None:
            self._start()
        self._wanted.set()

    def clear(self) -> None:
        """Let the next batch nudge again: called by the worker before it claims."""
        try:
            self._redis.delete(self._message.flag)
        except BROKER_ERRORS as error:
            logger.debug("nudge flag not cleared: %s", error)

    def _start(self) -> None:
        # Not at import: a thread doesn't survive the fork that makes a server's process.
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=self._message.breaker, daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._nudge():
                time.sleep(_PAUSE_SECONDS)
            else:
                self._wanted.set()
                time.sleep(_BREAKER_SECONDS)

    def _nudge(self) -> bool:
        """Publish unless a nudge is outstanding; False where the broker doesn't answer."""
        try:
            # After a failure the flag may be that of a request whose answer we didn't wait for.
            if self._redis.set(self._message.flag, 1, nx=not self._open, ex=FLAG_SECONDS):
                self._publish_or_unflag()
        except BROKER_ERRORS as error:
            if not self._open:
                logger.warning("%s pause, the schedule stands in: %s", self._name, error)
            self._set_open(True)
            return False
        except Exception:
            # The thread goes on, whatever it was: without it each batch would wait for the sweep.
            logger.exception("a nudge failed")
            return False
        if self._open:
            logger.warning("nudges go on")
            self._set_open(False)
        return True

    def _set_open(self, is_open: bool) -> None:
        self._open = is_open
        self._breaker.set(is_open)

    def _publish_or_unflag(self) -> None:
        self._broker = self._broker or broker_connection()
        try:
            self._message.publish(self._broker)
        except BROKER_ERRORS:
            self._broker.release()
            self._broker = None
            self.clear()
            raise


nudger = Nudger(STORE)
forward_nudger = Nudger(FORWARD)
# By the queue that they tell.
NUDGERS = {STORE.queue: nudger, FORWARD.queue: forward_nudger}
