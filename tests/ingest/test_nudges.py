"""Nudges: few for many requests, and never in a request's way."""

import socket
import statistics
import threading
import time
from collections.abc import Iterator

import kombu
import pytest
import redis
from django.conf import settings
from django.test import Client, override_settings

from ingest import intake, nudges
from ingest.nudges import BROKER_ERRORS, NUDGERS, STORE, Nudge, Nudger
from telemetry_site.celery import app, broker_connection
from tests.harness import Project, Service, free_port, wait_for
from tests.ingest.sending import accepted, batch, send, settled

AT_ONCE_SECONDS = 0.05
BOUNDED_SECONDS = 3.0
OWN_FLAG = "telemetry:test-nudged"
OWN_QUEUE = "test-nudges"
OWN = Nudge(STORE.task, OWN_QUEUE, OWN_FLAG, "nudges")


@pytest.fixture
def broker(service: Service) -> Iterator[redis.Redis]:
    """The service's Redis, and in it a flag and a queue that no worker touches."""
    with redis.Redis.from_url(settings.REDIS) as client:
        client.delete(OWN_FLAG, OWN_QUEUE)
        yield client
        client.delete(OWN_FLAG, OWN_QUEUE, f"_kombu.binding.{OWN_QUEUE}")


@pytest.fixture
def nudger(broker: redis.Redis) -> Nudger:
    """One that publishes for real, into this test's queue."""
    app.amqp.queues.add(kombu.Queue(OWN_QUEUE))
    return Nudger(OWN)


@pytest.fixture(params=["nobody listens", "frozen"])
def lost_redis(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a Redis that refuses connections, or takes them and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "frozen":
            listener.listen(16)
        port = listener.getsockname()[1] if request.param == "frozen" else free_port()
        yield f"redis://127.0.0.1:{port}/0"


def messages(broker: redis.Redis) -> int:
    return int(broker.llen(OWN_QUEUE))  # type: ignore[arg-type]


def thread_of(nudger: Nudger) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread is nudger._thread]


# --- coalescing ---


def test_request_is_published(nudger: Nudger, broker: redis.Redis) -> None:
    nudger.request()
    wait_for(lambda: messages(broker) == 1, 5, "the nudge")


def test_many_requests_from_many_threads_are_one_message(
    nudger: Nudger, broker: redis.Redis
) -> None:
    askers = [
        threading.Thread(target=lambda: [nudger.request() for _ in range(500)]) for _ in range(8)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    wait_for(lambda: messages(broker), 5, "the nudge")
    wait_for(lambda: not nudger._wanted.is_set(), 5, "the last request to be looked at")
    assert messages(broker) == 1
    assert len(thread_of(nudger)) == 1


def test_two_processes_share_one_outstanding_nudge(nudger: Nudger, broker: redis.Redis) -> None:
    other = Nudger(OWN)
    for each in (nudger, other):
        assert each._nudge()
    assert messages(broker) == 1


def test_cleared_flag_lets_the_next_request_nudge(nudger: Nudger, broker: redis.Redis) -> None:
    for expected in (1, 2, 3):
        nudger._nudge()
        nudger._nudge()
        assert messages(broker) == expected
        nudger.clear()


def test_lost_nudge_is_forgotten_in_seconds(nudger: Nudger, broker: redis.Redis) -> None:
    nudger._nudge()
    assert 0 < int(broker.ttl(OWN_FLAG)) <= nudges.FLAG_SECONDS  # type: ignore[arg-type]


def test_nudge_carries_nothing_and_expires(nudger: Nudger, broker: redis.Redis) -> None:
    nudger._nudge()
    with broker_connection() as connected, connected.SimpleQueue(OWN_QUEUE) as queue:
        message = queue.get(timeout=1)
        message.ack()
    assert message.headers["task"] == OWN.task
    assert message.headers["expires"] is not None
    assert message.payload[:2] == [[], {}]


@pytest.mark.parametrize("queue", NUDGERS)
def test_task_and_queue_of_a_nudge_exist(queue: str) -> None:
    app.loader.import_default_modules()
    assert NUDGERS[queue]._message.task in app.tasks
    assert queue in app.conf.task_queues


def test_busy_service_keeps_storing_and_its_queue_stays_short(
    service: Service, project: Project, broker: redis.Redis
) -> None:
    sent = [accepted(send(service, project, batch())) for _ in range(60)]
    assert int(broker.llen(STORE.queue)) < 10  # type: ignore[arg-type]
    for batch_id in sent:
        settled(service, project, batch_id)
    wait_for(lambda: broker.llen(STORE.queue) == 0, 10, "the queue to be empty")


# --- a Redis that is away ---


def lost_nudger(url: str) -> Nudger:
    with override_settings(REDIS=url):
        return Nudger(OWN)


def test_request_returns_at_once_while_redis_is_away(lost_redis: str) -> None:
    nudger = lost_nudger(lost_redis)
    begun = time.monotonic()
    for _ in range(1_000):
        nudger.request()
    assert time.monotonic() - begun < AT_ONCE_SECONDS
    wait_for(lambda: nudger._open, BOUNDED_SECONDS, "the breaker to open")
    nudger.request()
    assert time.monotonic() - begun < BOUNDED_SECONDS


def test_breaker_stops_tries_and_remembers_what_was_wanted(lost_redis: str) -> None:
    nudger = lost_nudger(lost_redis)
    nudger.request()
    wait_for(lambda: nudger._open, BOUNDED_SECONDS, "the breaker to open")
    wait_for(nudger._wanted.is_set, BOUNDED_SECONDS, "the request to be wanted still")


def test_clearing_the_flag_never_raises_and_takes_bounded_time(lost_redis: str) -> None:
    begun = time.monotonic()
    lost_nudger(lost_redis).clear()
    assert time.monotonic() - begun < BOUNDED_SECONDS


def test_publish_raises_in_bounded_time(lost_redis: str) -> None:
    begun = time.monotonic()
    with pytest.raises(BROKER_ERRORS), lost_broker(lost_redis) as away:
        OWN.publish(away)
    assert time.monotonic() - begun < BOUNDED_SECONDS


def lost_broker(url: str) -> kombu.Connection:
    """What `broker_connection` makes, to another place."""
    usual = broker_connection()
    return app.connection_for_write(url, transport_options=usual.transport_options)


def test_nudges_go_on_when_redis_is_back(nudger: Nudger, broker: redis.Redis) -> None:
    away = redis.Redis.from_url(f"redis://127.0.0.1:{free_port()}/0")
    back, nudger._redis = nudger._redis, away
    assert not nudger._nudge()
    nudger._redis = back
    assert nudger._nudge()
    assert messages(broker) == 1


def test_first_nudge_after_an_outage_ignores_the_flag(nudger: Nudger, broker: redis.Redis) -> None:
    """It may be that of a request whose answer was never read, and whose nudge was never sent."""
    broker.set(OWN_FLAG, 1)
    nudger._open = True
    assert nudger._nudge()
    assert messages(broker) == 1
    assert nudger._nudge()
    assert messages(broker) == 1


def test_failed_publish_takes_the_flag_back(nudger: Nudger, broker: redis.Redis) -> None:
    nudger._broker = lost_broker(f"redis://127.0.0.1:{free_port()}/0")
    assert not nudger._nudge()
    assert not broker.exists(OWN_FLAG)
    assert nudger._nudge(), "on a connection of its own, made anew"
    assert messages(broker) == 1


def test_accepting_goes_on_while_redis_is_away(
    service: Service, project: Project, lost_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, whose nudger has lost its Redis."""
    monkeypatch.setattr(intake, "nudger", lost_nudger(lost_redis))
    durations, sent = [], []
    for _ in range(10):
        begun = time.monotonic()
        sent.append(accept_here(project))
        durations.append(time.monotonic() - begun)
    assert statistics.median(durations) < AT_ONCE_SECONDS
    nudges.nudger.request()
    for batch_id in sent:
        settled(service, project, batch_id)


def accept_here(project: Project) -> str:
    """POST a batch to the application in this process; its id."""
    answer = Client(SERVER_NAME="localhost").post(
        "/v1/events",
        batch(),
        content_type="application/json",
        headers={"X-API-Key": project.ingest_key},
    )
    assert answer.status_code == 200, answer.content
    return str(answer.json()["batch_id"])
