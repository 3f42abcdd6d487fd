"""Faults around collectors: one that is away, and a worker that dies while it sends to one."""

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tests.collector import answers
from tests.collector.received import LOGS, Received
from tests.collector.server import Collector
from tests.faults.reckoning import drained, value
from tests.faults.trial import Outcome, Trial, kill
from tests.harness import Project, Service, wait_for

# Who was away for ten minutes is asked every five.
DELIVERY_SECONDS = 420.0
LOAD_PAUSE = 0.1  # a load of many minutes
WAITING = "SELECT count(*) FROM ingest_delivery WHERE state = 'waiting' AND waiting_since < %s"
GIVEN_UP = "SELECT count(*) FROM ingest_delivery WHERE state NOT IN ('waiting', 'delivered')"
# What each stored row is sent as: its time, its name, and what tells it from its neighbours.
STORED = """
    WITH project AS (SELECT id FROM ingest_project WHERE slug = %s)
    SELECT (extract(epoch FROM occurred_at) * 1000000)::bigint, name,
        coalesce(message, properties->>'position')
    FROM ingest_event, project WHERE project_id = project.id
    UNION ALL
    SELECT (extract(epoch FROM occurred_at) * 1000000)::bigint, name, value::int::text
    FROM ingest_metricpoint, project WHERE project_id = project.id
"""

Key = tuple[int, str, str]


class Forwarding(Service):
    """A service whose collector is a test's."""

    def __init__(self, collector: Collector) -> None:
        # Longer than a busy machine takes: an answer that comes too late makes a duplicate.
        super().__init__(OTEL_COLLECTOR_ENDPOINT=collector.url, OTEL_COLLECTOR_TIMEOUT_MS="30000")
        self.collector = collector


@contextlib.contextmanager
def forwarding() -> Iterator[Forwarding]:
    """A running service and its collector."""
    with Collector() as collector:
        service = Forwarding(collector)
        try:
            service.start()
            yield service
        finally:
            service.remove()


def collector_away(service: Forwarding, seconds: int) -> Outcome:
    """Nobody listens where the collector was; what is stored meanwhile is delivered afterwards."""
    trial = Trial(service, "collector away")
    trial.load.pause = LOAD_PAUSE
    collector = service.collector
    with trial.load:
        trial.under_load()
        wait_for(lambda: collector.accepted, DELIVERY_SECONDS, "deliveries before the fault")
        with trial.fault():
            collector.stop()
            time.sleep(seconds)
        returned = datetime.now(UTC)
        backlog = value(service, WAITING, returned)
        collector.start()
        with trial.recovery():
            _wait_delivered(service, returned)
    _wait_all_delivered(service)
    assert _times(_sent(collector.accepted)) == _stored(service, trial.load.project)
    note = f"away for {seconds} s; {backlog} deliveries waited, and each was made once"
    return trial.outcome(1, note)


def killed_while_sending(service: Forwarding, times: int) -> Outcome:
    """kill -9 of the worker that forwards while the collector has what it sent, and is silent.

    What it had claimed is sent again once its lease ends: twice is only what a kill lies between.
    """
    trial = Trial(service, "killed while sending")
    trial.load.pause = LOAD_PAUSE
    collector = service.collector
    kills = []
    with trial.load:
        for _ in range(times):
            trial.under_load()
            released = threading.Event()
            got = len(collector.received)
            collector.then(answers.once(released, answers.accept))
            wait_for(lambda got=got: len(collector.received) > got, DELIVERY_SECONDS, "a request")
            with trial.fault(), trial.recovery():
                kill(*service.processes("forward"))
                # Once it is done: until then something may have been sent.
                kills.append(time.monotonic())
                released.set()
                since = time.monotonic()
                trial.wait(lambda since=since: _heard_since(collector, since), "another worker")
    _wait_all_delivered(service)
    sent = _sent(collector.received)
    stored = _stored(service, trial.load.project)
    assert set(sent) == set(stored)
    again = [(key, times) for key, times in sent.items() if len(times) > stored[key]]
    for key, moments in again:
        assert any(moments[0] < killed < moments[-1] for killed in kills), (key, moments, kills)
    note = f"{len(again)} records reached the collector twice, each before and after a kill"
    return trial.outcome(times, note)


def _heard_since(collector: Collector, moment: float) -> bool:
    return any(received.at > moment for received in collector.received[-20:])


def _wait_delivered(service: Service, moment: datetime) -> None:
    """Wait until nothing waits any more that was stored before `moment`."""
    wait_for(
        lambda: value(service, WAITING, moment) == 0, DELIVERY_SECONDS, "deliveries to be made"
    )


def _wait_all_delivered(service: Service) -> None:
    """Wait until all that was accepted is stored and delivered."""
    drained(service)
    _wait_delivered(service, datetime.now(UTC))
    assert value(service, GIVEN_UP) == 0


def _stored(service: Service, project: Project) -> Counter[Key]:
    with service.database() as connection:
        return Counter(connection.execute(STORED, [project.project]).fetchall())


def _times(sent: dict[Key, list[float]]) -> Counter[Key]:
    return Counter({key: len(times) for key, times in sent.items()})


def _sent(requests: list[Received]) -> dict[Key, list[float]]:
    """When each record and each point came."""
    found: dict[Key, list[float]] = defaultdict(list)
    for request in requests:
        for key in _records(request) if request.path == LOGS else _points(request):
            found[key].append(request.at)
    return found


def _records(request: Received) -> Iterator[Key]:
    for record in request.records:
        told = {pair.key: pair.value for pair in record.attributes}
        which = record.body.string_value or str(told["position"].int_value)
        yield record.time_unix_nano // 1000, record.event_name, which


def _points(request: Received) -> Iterator[Key]:
    for metric in request.metrics:
        data: Any = metric.gauge
        for point in data.data_points:
            yield point.time_unix_nano // 1000, metric.name, str(int(point.as_double))
