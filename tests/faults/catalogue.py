"""All faults: what is done, how often or how long in `make test` and in `make faults`."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.faults import batches, beat, collectors, erasing, servers, up, workers
from tests.faults.trial import Outcome
from tests.harness import Service

ALARM_SECONDS = 5


@contextlib.contextmanager
def quick_alarm() -> Iterator[Service]:
    """A running service that soon takes a backlog for a hung worker."""
    service = Service(TELEMETRY_BACKLOG_ALARM_SECONDS=str(ALARM_SECONDS))
    try:
        yield service.start()
    finally:
        service.remove()


@dataclass(frozen=True)
class Fault:
    """One line of the table.

    `run(service, extent)`: how often, for how many seconds or with how many batches; `small` in
    `make test` (None: not there), `long` in `make faults`. `place` starts a service where the
    shared one won't do.
    """

    title: str
    run: Callable[[Service, int], Outcome]
    small: int | None
    long: int
    place: Callable[[], AbstractContextManager[Service]] | None = None


FAULTS = (
    Fault("kill -9 of the worker in a transaction", workers.worker_killed, 2, 20),
    Fault("a batch that kills the worker", workers.killed_by_a_batch, 1, 3),
    Fault("no worker runs, the queue fills up", workers.queue_full, 300, 8000),
    Fault("kill -9 of the worker at a backlog", workers.killed_at_backlog, None, 4000),
    Fault("the worker hangs", workers.worker_frozen, None, ALARM_SECONDS, quick_alarm),
    Fault("kill -9 of the web server", servers.web_killed, 2, 10),
    Fault("kill -9 of Redis", servers.redis_killed, 1, 10),
    Fault("Redis hangs", servers.redis_frozen, 3, 30),
    Fault("Redis hangs while batches wait", servers.redis_frozen_long, None, 25, quick_alarm),
    Fault("Redis is down", servers.redis_down, 3, 30),
    Fault("an external Redis is away", servers.redis_away, None, 113, servers.external_redis),
    Fault("kill -9 of PostgreSQL", servers.postgres_killed, 2, 6),
    Fault("PostgreSQL is down", servers.postgres_down, 3, 30),
    Fault("kill -9 of beat", beat.beat_killed, None, 3),
    Fault("two beats", beat.beat_twice, 3, 60),
    Fault("one batch from eight clients at once", batches.replayed_at_once, 2, 20),
    Fault("poison between good batches", batches.poisoned, 1, 5),
    Fault("kill -9 of the worker that erases", erasing.killed_at_erasing, 1, 20),
    Fault("a collector is away", collectors.collector_away, 4, 600, collectors.forwarding),
    Fault(
        "kill -9 of the worker that forwards",
        collectors.killed_while_sending,
        None,
        5,
        collectors.forwarding,
    ),
    Fault("kill -9 of `up`", up.up_killed, 1, 5),
    Fault("SIGTERM of `up`", up.up_stopped, 1, 5),
)
