"""`/metrics` of a service with a token, while what it leans on is away and processes die."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from telemetry_site.celery import QUEUES
from tests.harness import Project, Service, data_folder, wait_for
from tests.ingest.sending import accepted, batch, send
from tests.telemetry_site.scraping import Reading, ask, scrape

TOKEN = "a token of the tests, long enough"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SEEN_SECONDS = 40.0
# A scraper's patience is ten seconds, unless it is told otherwise.
BOUNDED_SECONDS = 8.0
ASKED_OF_THE_DATABASE = (
    "telemetry_waiting_batches",
    "telemetry_waiting_oldest_seconds",
    "telemetry_dead_batches",
    "telemetry_partitions",
    "telemetry_partition_days_ahead",
    "telemetry_queue_paused",
)
ASKED_OF_THE_BROKER = (
    "telemetry_queue_waiting_tasks",
    "telemetry_queue_oldest_seconds",
    "telemetry_queue_running_tasks",
    "telemetry_queue_workers",
)


@pytest.fixture(scope="module")
def own() -> Iterator[Service]:
    service = Service(data_folder(), TELEMETRY_METRICS_TOKEN=TOKEN)
    try:
        yield service.start()
    finally:
        service.remove()


@pytest.fixture(scope="module")
def sender(own: Service) -> Project:
    return own.create_project("sender")


def reading(service: Service) -> Reading:
    return scrape(service, BEARER)


@contextmanager
def frozen(service: Service, role: str) -> Iterator[None]:
    """Every process of the role hangs."""
    processes = service.processes(role)
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            if process.is_running():
                process.resume()


def wait_until_well(service: Service) -> Reading:
    def well() -> Reading | None:
        found = reading(service)
        return found if all(found.checks.values()) else None

    found: Reading = wait_for(well, SEEN_SECONDS, "every check to be ok")
    return found


@pytest.fixture(autouse=True)
def _well(own: Service, sender: Project) -> None:
    accepted(send(own, sender, batch()))
    wait_until_well(own)


# --- the token ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer \xe9\xff"},
        {"X-API-Key": TOKEN},
    ],
)
def test_with_a_token_nobody_reads_without_it(own: Service, headers: dict[str, str]) -> None:
    answer = ask(own, headers)
    assert (answer.status, answer.json["code"]) == (401, "invalid_token")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "telemetry_requests_total" not in answer.text


def test_with_it_a_proxy_may_pass_it_on_by_any_name(own: Service) -> None:
    headers = {**BEARER, "X-Forwarded-For": "192.0.2.1", "Host": "web:8000"}
    assert scrape(own, headers).checks


# --- outages ---


def timed(service: Service) -> Reading:
    started = time.monotonic()
    found = reading(service)
    assert time.monotonic() - started < BOUNDED_SECONDS
    return found


def told_of_the_database(found: Reading) -> list[str]:
    return [name for name in ASKED_OF_THE_DATABASE if name in found.metrics]


def check_it_is_away(service: Service) -> None:
    """Soon: figures are kept for some seconds."""

    def away() -> Reading | None:
        found = timed(service)
        return None if found.checks["database"] else found

    found = wait_for(away, SEEN_SECONDS, "the database to be found missing")
    assert told_of_the_database(found) == []
    assert found.checks["disk"] == found.checks["broker"] == 1
    assert found.value("telemetry_requests_total") > 0
    assert found.value("telemetry_disk_free_bytes") > 0


def test_with_the_database_frozen_the_rest_is_told_in_time(own: Service) -> None:
    with frozen(own, "postgres"):
        check_it_is_away(own)
        check_it_is_away(own)
    assert told_of_the_database(wait_until_well(own)) == list(ASKED_OF_THE_DATABASE)


def test_with_the_database_away_the_rest_is_told_in_time(own: Service) -> None:
    up = psutil.Process(own.process.pid)
    up.suspend()  # it would start another at once
    try:
        own.processes("postgres")[0].kill()
        check_it_is_away(own)
    finally:
        up.resume()
    assert told_of_the_database(wait_until_well(own)) == list(ASKED_OF_THE_DATABASE)


def test_with_redis_frozen_it_is_told_that_limits_are_off(own: Service, sender: Project) -> None:
    with frozen(own, "redis"):
        accepted(send(own, sender, batch()))

        def told() -> bool:
            found = timed(own)
            open_ = {
                name: found.value("telemetry_breaker_open", breaker=name)
                for name in ("rate_limits", "nudges")
            }
            if open_ != {"rate_limits": 1, "nudges": 1} or found.checks["broker"]:
                return False
            assert not any(name in found.metrics for name in ASKED_OF_THE_BROKER)
            return told_of_the_database(found) == list(ASKED_OF_THE_DATABASE)

        wait_for(told, SEEN_SECONDS, "both breakers to be told as open")
    accepted(send(own, sender, batch()))
    wait_for(
        lambda: reading(own).value("telemetry_breaker_open") == 0,
        SEEN_SECONDS,
        "both breakers to be told as closed",
    )
    assert wait_until_well(own).metrics.keys() >= set(ASKED_OF_THE_BROKER)


# --- processes that die ---


def kill(service: Service, process: psutil.Process, role: str) -> None:
    """Kill it, and wait for the one that takes its place."""
    before = {found.pid for found in service.processes(role)}
    process.kill()
    wait_for(
        lambda: len({found.pid for found in service.processes(role)} - before) > 0,
        SEEN_SECONDS,
        f"another process of {role}",
    )


def test_what_a_process_counted_stays_when_it_dies(own: Service, sender: Project) -> None:
    def stored() -> float:
        return reading(own).value("telemetry_events_total", outcome="stored")

    def files() -> set[str]:
        return {path.name for path in (own.data_dir / "metrics").iterdir()}

    def all_is_counted() -> bool:
        found = reading(own)
        arrived = found.value("telemetry_batch_events_sum")
        return found.value("telemetry_events_total", outcome="stored") == arrived

    wait_for(all_is_counted, SEEN_SECONDS, "what came before to be stored")
    before = stored()
    sent = 0
    for _ in range(3):
        accepted(send(own, sender, batch()))
        sent += 1
        wait_for(lambda n=sent: stored() == before + n, SEEN_SECONDS, "it to be stored")
        kill(own, own.processes("ingest")[1], "ingest")
        assert stored() == before + sent
    accepted(send(own, sender, batch()))
    wait_for(lambda: stored() == before + sent + 1, SEEN_SECONDS, "its successor to count on")
    # One set of files for each process that lives, however many have died: granian's, each
    # queue's worker with a process, and beat.
    assert len(files()) <= (2 + len(QUEUES) + sum(QUEUES.values())) * 4


def test_a_restart_counts_anew(own: Service, sender: Project) -> None:
    accepted(send(own, sender, batch()))
    assert reading(own).value("telemetry_batch_events_count") > 0
    assert own.stop() == 0
    own.start()
    assert reading(own).value("telemetry_batch_events_count") == 0
