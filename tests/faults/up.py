"""Faults of `up` itself: killed with everything below it, and told to stop under load."""

import concurrent.futures
import time
from typing import Any

import psutil
import psycopg

from tests.faults.load import Client, Sent, new_batch
from tests.faults.trial import Outcome, Trial, kill, remains
from tests.harness import Service, wait_for

ORPHAN_SECONDS = 30.0
HELD = 4  # requests under way when the signal comes


def up_killed(service: Service, times: int) -> Outcome:
    """kill -9 of `up` under load: nothing below it stays, and the next start works."""
    trial = Trial(service, "up killed")
    with trial.load:
        for _ in range(times):
            trial.under_load()
            with trial.fault(), trial.recovery():
                _kill_with_all_below(service)
                _start_again(service)
                trial.wait_for_accepting()
                trial.wait_for_storing()
    return trial.outcome(times, "nothing left below it; started again")


def _kill_with_all_below(service: Service) -> None:
    up = psutil.Process(service.process.pid)
    below = up.children(recursive=True)
    kill(up)
    service.process.wait(10)
    wait_for(lambda: not remains(below), ORPHAN_SECONDS, f"nothing to be left of {remains(below)}")


def _start_again(service: Service) -> None:
    assert service.process.stdout is not None
    service.process.stdout.close()
    service.lines.clear()  # in which `start` looks for "ready"
    service.start()


def up_stopped(service: Service, times: int) -> Outcome:
    """SIGTERM of `up` under load: what is under way is answered, and it ends with 0."""
    trial = Trial(service, "up stopped")
    with trial.load:
        for _ in range(times):
            trial.under_load()
            with trial.fault(), trial.recovery():
                _stop_with_requests_under_way(trial)
                _start_again(service)
                trial.wait_for_accepting()
    return trial.outcome(times, f"{HELD} requests held under way: all answered; exit code 0")


def _stop_with_requests_under_way(trial: Trial) -> None:
    service, up = trial.service, psutil.Process(trial.service.process.pid)
    below = up.children(recursive=True)
    batches = [new_batch() for _ in range(HELD)]
    trial.load.batches += batches
    with concurrent.futures.ThreadPoolExecutor(HELD + 1) as pool:
        with service.database() as connection, connection.transaction():
            # Whoever writes to the ledger waits, until this transaction ends.
            connection.execute("LOCK TABLE ingest_batch IN SHARE ROW EXCLUSIVE MODE")
            posts = [pool.submit(_post, trial, batch) for batch in batches]
            wait_for(lambda: _held(connection) >= HELD, 30, "requests to be under way")
            ended = pool.submit(service.stop)
            wait_for(lambda: "stopping" in trial.tail, 30, "up to say that it stops")
            time.sleep(1)  # the web server has been told by now; the requests must outlast that
        concurrent.futures.wait(posts)
        assert ended.result() == 0, trial.tail
    assert all(len(batch.told) == 1 for batch in batches), batches
    assert not remains(below), remains(below)


def _post(trial: Trial, batch: Sent) -> None:
    client = Client(trial.service, trial.load.project)
    client.post(batch)
    client.close()


def _held(connection: psycopg.Connection[Any]) -> int:
    """How many wait for a lock on the ledger."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation::regclass::text LIKE %s"
    row = connection.execute(query, ["%ingest_batch%"]).fetchone()
    assert row is not None
    return int(row[0])
