"""Two `up` on one PostgreSQL and Redis, started at once: they share the work and cover each other.

Each tells the database its name (`application_name`), so that it shows who stored what.
"""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
import redis

from tests.external import PASSWORD, PostgresOfOnesOwn, RedisOfOnesOwn
from tests.harness import Project, Service, data_folder, wait_for

WORK_SECONDS = 60
EVENTS = 3
# Longer than a beat's lease, and a tick of the next one.
TAKE_OVER_SECONDS = 30
LEADER = "SELECT holder FROM telemetry_site_lease WHERE name = 'beat' AND until > now()"
NOTE_WHO_STORES = """
    CREATE TABLE stored_by (batch uuid, instance text);
    GRANT INSERT ON stored_by TO telemetry_app;
    CREATE FUNCTION note_who_stores() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.stored_by VALUES (NEW.batch_id, current_setting('application_name'));
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_who_stores AFTER UPDATE OF state ON ingest_batch FOR EACH ROW
        WHEN (NEW.state = 'stored') EXECUTE FUNCTION note_who_stores();
"""


@dataclass
class Pair:
    """Two services, the servers they share, and a project."""

    services: dict[str, Service]
    postgres: PostgresOfOnesOwn
    redis: RedisOfOnesOwn
    project: Project

    def ask(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.postgres.superuser() as connection:
            return connection.execute(query, parameters).fetchall()

    def send(self, service: Service) -> str:
        """Send a batch; its id."""
        batch_id = str(uuid4())
        now = datetime.now(UTC).isoformat()
        events = [{"event": f"{batch_id} {n}", "timestamp": now} for n in range(EVENTS)]
        body = json.dumps({"batch_id": batch_id, "events": events}).encode()
        headers = {
            "X-API-Key": self.project.ingest_key,
            "X-User-ID": uuid4().hex,
            "Content-Type": "application/json",
        }
        answer = service.request("POST", "/v1/events", body, headers)
        assert answer.status == 200, answer.text
        return batch_id

    def send_until(self, done: Callable[[], bool], *services: Service, what: str) -> list[str]:
        """Send to these in turn until `done`; the batches' ids."""
        sent, turns = [], cycle(services)

        def sent_enough() -> bool:
            sent.append(self.send(next(turns)))
            return done()

        wait_for(sent_enough, WORK_SECONDS, what)
        return sent

    def stored_by(self, name: str) -> int:
        """How many batches the service's worker has stored."""
        ((count,),) = self.ask("SELECT count(*) FROM stored_by WHERE instance = %s", name)
        return int(count)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    folders = [data_folder() for _ in range(2)]
    postgres, broker = PostgresOfOnesOwn(folders[0]), RedisOfOnesOwn(folders[1])
    services = {name: _service(name, postgres, broker) for name in ("one", "two")}
    try:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(Service.start, services.values()))
        with postgres.superuser() as connection:
            connection.execute(NOTE_WHO_STORES)
        project = services["one"].create_project("shared")
        yield Pair(services, postgres, broker, project)
    finally:
        for service in services.values():
            service.remove()
        broker.kill()
        postgres.stop()
        for folder in folders:
            shutil.rmtree(folder)


def _service(name: str, postgres: PostgresOfOnesOwn, broker: RedisOfOnesOwn) -> Service:
    return Service(
        DATABASE_URL=f"{postgres.url('telemetry_app')}?application_name={name}",
        DATABASE_OWNER_URL=postgres.url("telemetry_owner"),
        REDIS_URL=broker.url,
        SECRET_KEY=PASSWORD * 4,
        TELEMETRY_PEPPER=PASSWORD * 4,
    )


def test_an_empty_database_is_set_up_once(pair: Pair) -> None:
    wait_for(lambda: _leading(pair), TAKE_OVER_SECONDS, "one beat to lead")
    for service in pair.services.values():
        assert not [line for line in service.lines if "error" in line.lower()], service.output
    ((administrators,),) = pair.ask("SELECT count(*) FROM auth_user")
    assert administrators == 1
    shown = [service for service in pair.services.values() if "password  " in service.output]
    assert len(shown) == 1
    schedules = [name for (name,) in pair.ask("SELECT name FROM django_celery_beat_periodictask")]
    assert schedules
    assert len(set(schedules)) == len(schedules)


def test_each_worker_has_a_name_of_its_own(pair: Pair) -> None:
    def names() -> list[str]:
        with redis.Redis.from_url(pair.redis.url) as client:
            return [name.decode() for name in client.hkeys("telemetry:workers")]

    wait_for(lambda: len(names()) == 10, WORK_SECONDS, "ten workers to tell what they do")
    assert sorted(name.partition("-")[0] for name in names()) == [
        "default", "default", "forward", "forward", "ingest", "ingest", "privacy", "privacy",
        "rollup", "rollup",
    ]  # fmt: skip


def test_both_store_each_batch_once_though_a_worker_is_killed(pair: Pair) -> None:
    one, two = pair.services.values()
    sent = pair.send_until(
        lambda: pair.stored_by("one") > 0 and pair.stored_by("two") > 0,
        *(one, two),
        what="both to store",
    )
    before = pair.stored_by("one")
    for process in one.processes("ingest"):
        process.kill()
    sent += pair.send_until(
        lambda: pair.stored_by("one") > before,
        *(one, two),
        what="the killed worker's successor to store",
    )
    wait_for(lambda: _waiting(pair) == 0, WORK_SECONDS, "everything to be stored")
    batches = pair.ask("SELECT batch, count(*) FROM stored_by GROUP BY batch")
    assert dict(batches) == {UUID(batch): 1 for batch in sent}
    ((events, different),) = pair.ask("SELECT count(*), count(DISTINCT name) FROM ingest_event")
    assert events == different == EVENTS * len(sent)
    assert _accounted(pair, one) == _accounted(pair, two) == (events, events)


def test_the_other_goes_on_when_one_is_stopped(pair: Pair) -> None:
    """As in a rolling restart: the one whose beat runs the schedules is stopped."""
    leading = wait_for(lambda: _leading(pair), TAKE_OVER_SECONDS, "one beat to lead")
    stopped = pair.services[leading]
    (name,) = pair.services.keys() - {leading}
    other, before = pair.services[name], pair.stored_by(name)

    with ThreadPoolExecutor(1) as threads:
        code = threads.submit(stopped.stop, signal.SIGTERM)
        pair.send_until(
            lambda: code.done() and pair.stored_by(name) > before, other, what="it to end"
        )
        assert code.result() == 0
    wait_for(lambda: _waiting(pair) == 0, WORK_SECONDS, "everything to be stored")
    wait_for(lambda: _leading(pair) == name, TAKE_OVER_SECONDS, "the other's beat to lead")


def _leading(pair: Pair) -> str:
    """The name of the service whose beat runs the schedules; empty where none does."""
    for (holder,) in pair.ask(LEADER):
        pid = int(holder.rpartition(":")[2])
        for name, service in pair.services.items():
            if service.process.poll() is None and _is_below(pid, service.process.pid):
                return name
    return ""


def _is_below(pid: int, ancestor: int) -> bool:
    return pid in {child.pid for child in psutil.Process(ancestor).children(recursive=True)}


def _waiting(pair: Pair) -> int:
    ((count,),) = pair.ask("SELECT count(*) FROM ingest_batch WHERE state = 'received'")
    return int(count)


def _accounted(pair: Pair, service: Service) -> tuple[int, int]:
    """Events received and stored, as the service itself says."""
    secret = {"X-API-Key": pair.project.secret_key}
    answer = service.request("GET", "/v1/query/accounting", headers=secret)
    assert answer.status == 200, answer.text
    formats = {line.pop("format"): line for line in answer.json["formats"]}
    return formats["events"]["received"], formats["events"]["stored"]
