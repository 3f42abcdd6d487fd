"""Faults of the worker that stores: killed in the middle of it, killed by a batch, frozen."""

import contextlib
import time
from collections.abc import Iterator

from tests.faults.load import Sent, new_batch
from tests.faults.reckoning import drained, value, waiting
from tests.faults.trial import Outcome, Trial, broker, frozen, kill, replaced
from tests.harness import Service, wait_for

WATCH_SECONDS = 60.0
TRIES = 20  # for each kill that should hit a transaction
FULL_GROUP = 50  # batches a worker stores at once
DEADLY = "deadly"
DEATHS = 3  # until a batch is taken for the culprit
# A worker that stores an event of this name is long enough in its transaction to be killed there.
SLOW = f"""
CREATE OR REPLACE FUNCTION partitions.slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.7); RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER slow BEFORE INSERT ON ingest_event FOR EACH ROW
    WHEN (NEW.name = '{DEADLY}') EXECUTE FUNCTION partitions.slow();
"""
NOT_SLOW = "DROP FUNCTION IF EXISTS partitions.slow CASCADE"


def worker_killed(service: Service, times: int) -> Outcome:
    """kill -9 of the ingest worker while it stores: the pool's child, then the whole worker."""
    trial = Trial(service, "worker killed")
    with trial.load:
        for number in range(times):
            trial.under_load()
            with trial.fault():
                _kill_in_transaction(trial, whole=number % 2 == 1)
            wait_for(lambda: not _suspects(service), WATCH_SECONDS, "suspects to be tried singly")
    outcome = trial.outcome(times, "every kill hit a transaction")
    assert outcome.reckoning.dead == 0, outcome.reckoning
    return outcome


def _kill_in_transaction(trial: Trial, *, whole: bool) -> None:
    """Kill until a kill hit: a transaction that was just over leaves no death behind."""
    for _ in range(TRIES):
        deaths = _deaths(trial)
        workers = trial.service.processes("ingest")
        if workers[1:] and _wait_for_attempt(trial.service):
            with trial.recovery():
                kill(*(workers if whole else workers[1:]))
                trial.wait_for_storing()
            if _deaths(trial) > deaths:
                return
    raise AssertionError(f"no kill of {TRIES} hit a transaction")


def _wait_for_attempt(service: Service) -> bool:
    deadline = time.monotonic() + WATCH_SECONDS
    with service.database() as connection:
        while time.monotonic() < deadline:
            if connection.execute("SELECT FROM ingest_attempt LIMIT 1").rowcount:
                return True
    return False


def _deaths(trial: Trial) -> int:
    """How often a batch of the load was in a transaction whose worker died."""
    query = "SELECT coalesce(sum(attempts), 0) FROM ingest_batch WHERE project_id = "
    query += "(SELECT id FROM ingest_project WHERE slug = %s)"
    return int(value(trial.service, query, trial.load.project.project))


def _suspects(service: Service) -> int:
    query = "SELECT count(*) FROM ingest_batch WHERE state = 'received' AND attempts > 0"
    return int(value(service, query))


def killed_by_a_batch(service: Service, times: int) -> Outcome:
    """A batch at which the worker dies, between good ones: dead after three deaths, alone."""
    trial = Trial(service, "deadly batch")
    deadly = [new_batch(events=1, name=DEADLY) for _ in range(times)]
    for batch in deadly:
        drained(service)
        with _slow_inserts(service), trial.load:
            trial.under_load()
            trial.load.send(batch)
            with trial.fault():
                _kill_at(service, batch)
            with trial.recovery():
                trial.wait_for_storing()
        drained(service)
    outcome = trial.outcome(times, f"dead after {DEATHS} deaths; all around it stored")
    assert outcome.reckoning.dead == times, outcome.reckoning
    return outcome


@contextlib.contextmanager
def _slow_inserts(service: Service) -> Iterator[None]:
    with service.database() as connection:
        connection.execute(SLOW)
    try:
        yield
    finally:
        with service.database() as connection:
            connection.execute(NOT_SLOW)


def _kill_at(service: Service, deadly: Sent) -> None:
    """Kill the worker each time it works on the batch; the child first, then the whole of it."""
    for death in range(1, DEATHS + 1):
        wait_for(lambda: _works_on(service, deadly), WATCH_SECONDS, f"attempt {death} at the batch")
        workers = service.processes("ingest")
        kill(*(workers[1:] if death == 1 else workers))
        wait_for(
            lambda expected=death: _attempts(service, deadly) == expected,
            WATCH_SECONDS,
            f"death {death} to be blamed on the batch",
        )


def _works_on(service: Service, batch: Sent) -> bool:
    query = """
        SELECT EXISTS (
            SELECT FROM ingest_attempt, ingest_batch
            WHERE ingest_batch.id = ANY(batches) AND batch_id = %s AND state = 'received'
        ) AND EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')
    """
    return bool(value(service, query, batch.batch_id))


def _attempts(service: Service, batch: Sent) -> int:
    query = "SELECT attempts FROM ingest_batch WHERE batch_id = %s"
    return int(value(service, query, batch.batch_id))


def queue_full(service: Service, batches: int) -> Outcome:
    """No worker runs, everything is accepted all the same; nudges don't pile up; then it drains."""
    trial = Trial(service, "full queue")
    drained(service)
    begun = time.monotonic()
    with frozen(*service.processes("ingest")):
        with trial.fault(), trial.load:
            wait_for(
                lambda: len(trial.load.batches) >= batches, WATCH_SECONDS * 5, "batches to be sent"
            )
        nudges, backlog = _nudges(service), waiting(service)
    with trial.recovery():
        drained(service)
    outcome = trial.outcome(1, f"{backlog} batches and {nudges} nudges waited")
    # One nudge and one sweep in ten seconds, and one of each to begin with.
    assert nudges <= 2 + (time.monotonic() - begun) / 5, f"{nudges} nudges in the queue"
    assert backlog == outcome.reckoning.accepted
    return outcome


def killed_at_backlog(service: Service, batches: int) -> Outcome:
    """kill -9 in the first transaction of a backlog, while many clients go on.

    The suspects of that death are tried one by one; the others mustn't wait for them.
    """
    trial = Trial(service, "killed at backlog")
    trial.load.clients, trial.load.pause = 6, 0.0
    drained(service)
    with trial.load, trial.fault():
        with frozen(*service.processes("ingest")):
            wait_for(lambda: len(trial.load.batches) >= batches, WATCH_SECONDS * 5, "a backlog")
        _kill_in_transaction(trial, whole=False)
        backlog = waiting(service)
        with trial.recovery():
            trial.wait(lambda: waiting(service) < FULL_GROUP, "the backlog to drain under load")
            trial.wait(lambda: not _suspects(service), "the suspects to be stored")
    return trial.outcome(1, f"{backlog} batches waited; they drained while six clients went on")


def _nudges(service: Service) -> int:
    with broker(service) as client:
        return int(client.llen("ingest"))


def worker_frozen(service: Service, seconds: int) -> Outcome:
    """The worker hangs and no one wakes it: `up` sees batches wait, and replaces it.

    For a service whose TELEMETRY_BACKLOG_ALARM_SECONDS is `seconds`.
    """
    trial = Trial(service, "frozen worker")
    drained(service)
    worker = service.processes("ingest")
    with trial.fault(), trial.load:
        for process in worker:
            process.suspend()
        with trial.recovery():
            trial.wait(lambda: replaced(service, "ingest", worker[0]), "up to replace the worker")
            trial.wait_for_storing()
    kill(*worker)
    return trial.outcome(1, f"`up` replaced it (alarm after {seconds} s)")
