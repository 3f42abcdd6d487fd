"""The page of the queues, and the real workers behind it: pausing, resuming, revoking, stopping."""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import kombu
import psutil
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from ingest import backlog, storage, tasks
from ingest.models import Batch
from telemetry_site import checks, presence, queues
from telemetry_site.admin import queues as page
from telemetry_site.backlog import OLDEST_WAITING
from telemetry_site.celery import app, broker_connection
from telemetry_site.models import Pause
from telemetry_site.redis_client import redis_client
from tests.harness import Project, Service, free_port, wait_for
from tests.ingest.sending import accepted, batch, send, settled, status
from tests.ingest.waiting import plant, record, reread, storing
from tests.people import ROLES, logged_in

pytestmark = pytest.mark.usefixtures("service")

PAGE = "/admin/telemetry_site/queue/"
TASK = "ingest.tasks.expire_claims"
WORK_SECONDS = 30.0
SHOWN_SECONDS = 2.0


@pytest.fixture
def operator() -> Client:
    return logged_in("operator")


@pytest.fixture(autouse=True)
def _resumed(service: Service) -> Iterator[None]:
    """No test leaves a queue paused, nor begins before the workers are there and idle."""
    wait_for(lambda: all(map(worker, ("ingest", "default"))), WORK_SECONDS, "both workers")
    yield
    Pause.objects.all().delete()
    queues.tell_of_pauses()
    wait_for(
        lambda: not any(queue.waiting for queue in queues.look().values()),
        WORK_SECONDS,
        "the queues to be empty",
    )


def press(client: Client, button: str, **fields: str) -> str:
    """What the page says after a button was pressed."""
    answer = client.post(f"{PAGE}{button}/", fields, follow=True)
    assert answer.status_code == 200
    return answer.text


def pause(client: Client, queue: str) -> None:
    assert f"{queue} is paused" in press(client, "pause", queue=queue, reason="a test")


def worker(queue: str) -> presence.Worker | None:
    """The worker of a queue that speaks, if there is one."""
    with contextlib.closing(redis_client()) as client:
        alive = [one for one in presence.workers(client) if not one.is_gone]
    return next((one for one in alive if one.queues == [queue]), None)


def done(queue: str, task: str = TASK) -> int:
    found = worker(queue)
    return found.done.get(task, 0) if found else 0


def failed(queue: str, task: str) -> int:
    found = worker(queue)
    return found.failed.get(task, 0) if found else 0


def running(queue: str) -> presence.Running | None:
    found = worker(queue)
    return found.running[0] if found and found.running else None


def put(queue: str = "default") -> str:
    """Send a task that does nothing much; its id."""
    with broker_connection() as broker:
        return str(app.send_task(TASK, queue=queue, connection=broker, retry=False).id)


def waiting(queue: str) -> list[str]:
    return [message.id for message in queues.look()[queue].oldest]


def put_and_waiting() -> list[str]:
    """What `put` has sent and nobody has taken; beat sends to this queue, too."""
    return [message.id for message in queues.look()["default"].oldest if message.task == TASK]


def seen_later(queue: str) -> None:
    """Until the worker has had the time to take what waited a moment ago."""
    begun = time.time()

    def later() -> bool:
        found = worker(queue)
        return found is not None and found.seen > begun + 1.5

    wait_for(later, WORK_SECONDS, f"the worker of {queue} to speak twice")


# --- pause and resume ---


def test_a_paused_ledger_accepts_and_stores_nothing_until_it_is_resumed(
    operator: Client, service: Service, project: Project
) -> None:
    pause(operator, "ingest")
    batch_id = accepted(send(service, project, batch()))
    wait_for(lambda: len(waiting("ingest")) > 0, WORK_SECONDS, "the nudge to stay in the queue")
    tasks.store_batches.run()
    seen_later("ingest")
    assert status(service, project, batch_id).json["state"] == "received"
    assert "ingest is resumed" in press(operator, "resume", queue="ingest")
    assert settled(service, project, batch_id)["state"] == "stored"


def test_a_pause_ends_storing_between_two_groups(project: Project) -> None:
    with storing():
        first = plant(project, [record()])
        assert storage.store_waiting(5, lambda: True) is False
        reread(first)
        assert first.state == "received"
        answers = iter([False, True])
        storage.store_waiting(5, lambda: next(answers))
        reread(first)
        assert first.state == "stored"


def test_a_pause_outlives_its_worker_and_leaves_the_other_queue_alone(
    operator: Client, service: Service, project: Project
) -> None:
    pause(operator, "default")
    before = worker("default")
    assert before is not None
    service.processes("default")[0].kill()

    def replaced() -> bool:
        found = worker("default")
        return found is not None and found.since > before.since

    wait_for(replaced, WORK_SECONDS, "another worker")
    task = put()
    seen_later("default")
    assert task in waiting("default")
    assert settled(service, project, accepted(send(service, project, batch())))["state"] == "stored"
    press(operator, "resume", queue="default")
    wait_for(lambda: not waiting("default"), WORK_SECONDS, "the task to be taken")


def test_workers_see_a_pause_and_its_end_though_nobody_told_them(operator: Client) -> None:
    Pause.objects.create(queue="default", by="test", reason="a test")

    def stays() -> bool:
        task = put()
        seen_later("default")
        return task in waiting("default")

    wait_for(stays, WORK_SECONDS, "a task to stay in the queue")
    Pause.objects.filter(pk="default").delete()
    wait_for(lambda: not waiting("default"), WORK_SECONDS, "the worker to go on")


def test_the_page_says_who_paused_since_when_and_why(operator: Client) -> None:
    press(operator, "pause", queue="default", reason="<b>disk</b> is swapped")
    paused = Pause.objects.get(pk="default")
    text = operator.get(PAGE).text
    assert f"Paused by {paused.by} since {paused.since:%Y-%m-%d %H:%M:%S} UTC" in text
    assert "&lt;b&gt;disk&lt;/b&gt; is swapped" in text
    assert "Resume default" in text


@pytest.mark.parametrize(
    ("button", "fields", "sentence"),
    [
        ("pause", {"queue": "default", "reason": " "}, "Say why"),
        ("pause", {"queue": "nowhere", "reason": "x"}, "There is no such queue"),
        ("pause", {}, "There is no such queue"),
        ("resume", {"queue": "default"}, "default is not paused"),
        ("revoke", {"queue": "default", "task": "x"}, "no longer waits"),
        ("stop", {"task": "x"}, "no longer runs"),
        ("kill", {}, "no longer runs"),
    ],
)
def test_what_cannot_be_done_is_said(
    operator: Client, button: str, fields: dict[str, str], sentence: str
) -> None:
    assert sentence in press(operator, button, **fields)
    assert not Pause.objects.exists()


def test_pausing_twice_keeps_the_first_reason(operator: Client) -> None:
    pause(operator, "default")
    text = press(operator, "pause", queue="default", reason="another")
    assert "was paused already" in text
    assert Pause.objects.get().reason == "a test"


def test_a_pause_is_no_reason_to_restart_the_worker_and_health_says_so(project: Project) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    with storing(), connection.cursor() as cursor:
        plant(project, [record()], received_at=long_ago)
        cursor.execute(OLDEST_WAITING, [60])
        assert cursor.fetchone()[1] is True
        Pause.objects.create(queue="ingest", by="somebody", reason="a test")
        cursor.execute(OLDEST_WAITING, [60])
        assert cursor.fetchone() is None
        for name, well in (("worker", False), ("backlog", False), ("storing", True)):
            found = checks.CHECKS[name].look()
            assert found.ok is well
            assert "paused since" in found.detail
            assert "somebody" not in found.detail  # anybody may read it


# --- revoke, stop, kill ---


def test_a_revoked_task_is_gone_and_the_others_are_not(operator: Client) -> None:
    pause(operator, "default")
    seen_later("default")
    before = done("default")
    first, second = put(), put()
    wait_for(lambda: put_and_waiting() == [first, second], WORK_SECONDS, "both to wait")
    page_text = operator.get(PAGE).text
    assert first in page_text
    assert TASK in page_text
    assert f"{first} is revoked" in press(operator, "revoke", queue="default", task=first)
    assert put_and_waiting() == [second]
    assert "no longer waits" in press(operator, "revoke", queue="default", task=first)
    press(operator, "resume", queue="default")
    wait_for(lambda: done("default") > before, WORK_SECONDS, "the other to be done")
    assert done("default") == before + 1


@contextlib.contextmanager
def stuck(service: Service, project: Project) -> Iterator[tuple[Any, presence.Running]]:
    """A batch, and the task that can't store it: somebody locks the events."""
    with service.database() as other, other.transaction():
        other.execute("LOCK TABLE ingest_event")
        batch_id = accepted(send(service, project, batch()))
        # What the worker said before may be of a task that was about to end.
        wait_for(lambda: running("ingest"), WORK_SECONDS, "a task to run")
        seen_later("ingest")
        yield batch_id, wait_for(lambda: running("ingest"), WORK_SECONDS, "a task to be stuck")


def test_a_running_task_stops_when_asked_and_its_batch_is_not_blamed(
    operator: Client, service: Service, project: Project
) -> None:
    before = failed("ingest", "ingest.tasks.store_batches")
    with stuck(service, project) as (batch_id, task):
        assert task.id in operator.get(PAGE).text
        assert "is asked to stop" in press(operator, "stop", task=task.id)
        wait_for(
            lambda: failed("ingest", "ingest.tasks.store_batches") == before + 1,
            WORK_SECONDS,
            "the task to stop",
        )
    assert settled(service, project, batch_id)["state"] == "stored"
    assert Batch.objects.get(batch_id=batch_id).attempts == 0


def test_a_task_that_does_not_stop_is_killed_and_not_run_again(
    operator: Client, service: Service, project: Project
) -> None:
    with stuck(service, project) as (batch_id, task):
        assert "Ask the task to stop first" in press(operator, "kill", task=task.id)
        child = service.processes("ingest")[-1]
        child.suspend()  # it hears nobody
        assert "is asked to stop" in press(operator, "stop", task=task.id)
        wait_for(lambda: (one := running("ingest")) and one.asked, WORK_SECONDS, "it to be asked")
        assert "asked to stop" in operator.get(PAGE).text
        assert "is killed" in press(operator, "kill", task=task.id)
        wait_for(lambda: not alive(child), WORK_SECONDS, "the process to end")
    assert settled(service, project, batch_id)["state"] == "stored"


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


# --- what the page shows ---


def test_workers_are_shown_with_what_they_did_and_those_that_fell_silent(operator: Client) -> None:
    before = done("default")
    put()
    wait_for(lambda: done("default") > before, WORK_SECONDS, "the task to be done")
    silent = presence.Worker("ingest-x@away", ["ingest"], 0, time.time() - 60, [], {"t": 1234}, {})
    with contextlib.closing(redis_client()) as client:
        presence.tell(client, silent)
        try:
            text = operator.get(PAGE).text
        finally:
            presence.leave(client, silent.name)
    found = worker("default")
    assert found is not None
    assert found.name in text
    assert TASK in text
    assert "ingest-x@away" in text
    assert "not seen since" in text
    assert "1,234" in text


def test_a_worker_of_yesterday_or_of_another_version_is_forgotten() -> None:
    old = presence.Worker("old@away", ["ingest"], 0, time.time() - 90_000, [], {}, {})
    with contextlib.closing(redis_client()) as client:
        presence.tell(client, old)
        client.hset("telemetry:workers", "other@away", "{}")
        assert not {"old@away", "other@away"} & {one.name for one in presence.workers(client)}
        assert not client.hexists("telemetry:workers", "other@away")


def test_a_worker_that_ends_as_it_should_is_shown_no_longer(service: Service) -> None:
    before = worker("default")
    assert before is not None
    process = service.processes("default")[0]
    process.terminate()
    wait_for(lambda: not alive(process), WORK_SECONDS, "the worker to end")

    def replaced() -> bool:
        found = worker("default")
        return found is not None and found.since > before.since

    wait_for(replaced, WORK_SECONDS, "the next worker")


def test_figures_of_the_ledger(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "PACE_SECONDS", 600_000.0)  # all that the tests have sent
    monkeypatch.setattr(backlog, "MOST_PACED", 1_000_000)
    with storing():
        before = backlog.look()
        plant(project, [record(0), record(1)], received_at=timezone.now() - timedelta(hours=12))
        plant(project, [record()], state="stored", stored=1, stored_at=timezone.now())
        plant(project, b"", state="dead", dead=1)
        after = backlog.look()
    assert after.waiting == before.waiting + 1
    assert after.dead == before.dead + 1
    assert after.oldest is not None
    assert timezone.now() - after.oldest >= timedelta(hours=12)
    assert round((after.arrived.batches - before.arrived.batches) * 10_000) == 3
    assert round((after.arrived.events - before.arrived.events) * 10_000) == 4


def test_what_is_stored_is_counted_up_to_the_oldest_that_waits(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "PACE_SECONDS", 600_000.0)  # what the tests have stored stays in
    monkeypatch.setattr(backlog, "MOST_PACED", 1_000_000)
    with storing():
        before = backlog.look().stored
        # Of yesterday: before whatever another test has left waiting.
        since = timezone.now() - timedelta(days=1)
        plant(project, [record()], state="stored", stored=1_000_000, received_at=since,
              stored_at=timezone.now())  # fmt: skip
        plant(project, [record()])
        after = backlog.look().stored
    # More than what other tests' batches come to, which come and go meanwhile.
    assert (after.events - before.events) * 10_000 > 900_000


def test_counting_ends_somewhere_and_the_pace_is_that_of_the_newest(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_COUNTED", 2)
    monkeypatch.setattr(backlog, "MOST_PACED", 2)
    with storing():
        for _ in range(5):
            plant(project, [record()])
        found = backlog.look()
        shown = page._ledger()
    assert found.waiting == 3
    assert shown["waiting"] == "more than 2"
    assert found.arrived.batches > 60  # two within a second or less, not two a minute


def test_the_page_asks_as_many_queries_of_much_as_of_little(
    operator: Client, project: Project
) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert operator.get(PAGE).status_code == 200
        return len(queries)

    few = count()
    with storing():
        for queue in ("ingest", "default"):
            Pause.objects.create(queue=queue, by="x", reason="x")
        for _ in range(5):
            plant(project, [record()])
        assert count() == few


# --- who may do what ---


@pytest.mark.parametrize("role", ROLES)
def test_buttons_are_for_those_who_may_press_them(role: str) -> None:
    client = logged_in(role)
    may = role in ("operator", "admin")
    assert ("Pause default…" in client.get(PAGE).text) is may
    answer = client.post(f"{PAGE}pause/", {"queue": "default", "reason": "x"})
    assert answer.status_code == (302 if may else 403)
    assert Pause.objects.exists() is may


@pytest.mark.parametrize("button", ["pause", "resume", "revoke", "stop", "kill"])
def test_a_button_takes_post_a_permission_and_a_token(operator: Client, button: str) -> None:
    assert operator.get(f"{PAGE}{button}/").status_code == 405
    assert logged_in("viewer").post(f"{PAGE}{button}/").status_code == 403
    assert Client().post(f"{PAGE}{button}/").status_code == 302  # to the login
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert strict.post(f"{PAGE}{button}/", {"queue": "default", "reason": "x"}).status_code == 403


def test_what_the_open_page_asks_for_is_for_those_who_see_the_page() -> None:
    live = reverse("admin:telemetry_site_queue_live")
    assert logged_in("viewer").get(live).status_code == 200
    assert logged_in().get(live).status_code == 403


# --- without Redis ---


@pytest.fixture
def frozen_redis(service: Service) -> Iterator[None]:
    (redis,) = service.processes("redis")
    redis.suspend()
    yield
    redis.resume()


@pytest.mark.usefixtures("frozen_redis")
def test_the_page_comes_in_time_while_redis_hangs_and_shows_the_ledger(operator: Client) -> None:
    begun = time.monotonic()
    text = operator.get(PAGE).text
    assert time.monotonic() - begun < SHOWN_SECONDS
    assert "Redis does not answer" in text
    assert "batches waiting" in text


@pytest.fixture
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where this process looks for Redis."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    usual = broker_connection()

    def away() -> kombu.Connection:
        return app.connection_for_write(url, transport_options=usual.transport_options)

    monkeypatch.setattr("django.conf.settings.REDIS", url)
    monkeypatch.setattr(queues, "broker_connection", away)


@pytest.mark.usefixtures("no_redis")
@pytest.mark.parametrize(
    "press_it",
    [
        lambda client: press(client, "revoke", queue="default", task="x"),
        lambda client: press(client, "stop", task="x"),
        lambda client: press(client, "kill", task="x"),
        lambda client: client.get(PAGE).text,
    ],
)
def test_without_redis_everything_answers_with_a_sentence(
    operator: Client, press_it: Callable[[Client], str]
) -> None:
    begun = time.monotonic()
    assert "Redis does not answer" in press_it(operator)
    assert time.monotonic() - begun < 2 * SHOWN_SECONDS


@pytest.mark.usefixtures("no_redis")
def test_a_queue_is_paused_and_resumed_without_redis(operator: Client) -> None:
    text = press(operator, "pause", queue="default", reason="a test")
    assert "Redis does not answer: workers see it" in text
    assert Pause.objects.filter(pk="default").exists()
    assert "default is resumed" in press(operator, "resume", queue="default")
    assert not Pause.objects.exists()
