"""Faults that come with the batches: the same one from all sides, and what can't be stored."""

import threading
from datetime import UTC, datetime

from ingest.payloads import pack
from ingest.records import StoredRecord, microseconds
from tests.faults.load import Client, Sent, Told, new_batch
from tests.faults.reckoning import drained
from tests.faults.trial import Outcome, Trial, frozen
from tests.harness import Service

REPLAYS = 8
BAD_POSITION = 2
# Properties of a record that PostgreSQL refuses, each in a way of its own.
POISONS = (b'{"a": nope}', b'{"a": "\\u0000"}', b"", b'{"a": 1e999999}')
# Straight into the ledger: intake makes nothing of the kind.
WAITING_ROW = """
    INSERT INTO ingest_batch (id, day, project_id, batch_id, format, state, received_at, received,
        stored, duplicate, rejected, suppressed, dead, wire_bytes, body_bytes, attempts, error,
        request_id, payload)
    SELECT nextval('ingest_batch_id_seq'), (now() AT TIME ZONE 'UTC')::date, id, %s, 'events',
        'received', now(), %s, 0, 0, 0, 0, 0, 1, 1, 0, '', 'fault', %s
    FROM ingest_project WHERE slug = %s
"""


def replayed_at_once(service: Service, times: int) -> Outcome:
    """One batch sent by eight clients at the same moment: stored once, seven duplicates."""
    trial = Trial(service, "replays")
    for _ in range(times):
        batch = new_batch()
        trial.load.batches.append(batch)
        with trial.fault():
            _post_at_once(trial, batch)
        assert len(batch.told) == REPLAYS, batch
        assert sum(told.duplicate for told in batch.told) == REPLAYS - 1, batch.told
    outcome = trial.outcome(times, f"{REPLAYS} at once: one stored, {REPLAYS - 1} told duplicate")
    assert outcome.reckoning.accounting["duplicate"] == times * (REPLAYS - 1) * batch.events
    return outcome


def _post_at_once(trial: Trial, batch: Sent) -> None:
    start = threading.Barrier(REPLAYS)

    def post() -> None:
        client = Client(trial.service, trial.load.project)
        start.wait()
        client.post(batch)
        client.close()

    threads = [threading.Thread(target=post) for _ in range(REPLAYS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def poisoned(service: Service, times: int) -> Outcome:
    """Payloads that PostgreSQL refuses, and one that can't be read, between good batches."""
    trial = Trial(service, "poison")
    for _ in range(times):
        drained(service)
        with trial.fault(), frozen(*service.processes("ingest")):
            for poison in POISONS:
                trial.load.send(new_batch())
                _plant(trial, pack(_records(poison)), events=len(_records(poison)))
            trial.load.send(new_batch())
            _plant(trial, b"not a payload", events=5)
            trial.load.send(new_batch(), new_batch())
        with trial.recovery():
            drained(service)
    outcome = trial.outcome(times, f"{len(POISONS)} bad events and an unreadable payload a time")
    assert outcome.reckoning.dead == times * (len(POISONS) + 5), outcome.reckoning
    return outcome


def _records(poison: bytes) -> list[StoredRecord]:
    now = microseconds(datetime.now(UTC))
    return [
        StoredRecord(
            position=position,
            occurred=now,
            name="poison",
            subject=None,
            session=None,
            category="application",
            level=None,
            scope=None,
            client_version=None,
            message=None,
            properties=poison if position == BAD_POSITION else b"{}",
        )
        for position in range(5)
    ]


def _plant(trial: Trial, payload: bytes, *, events: int) -> None:
    """A waiting batch with this payload, remembered like one that was sent and accepted."""
    batch = new_batch(events)
    batch.told.append(Told(begun=0.0, seconds=0.0, duplicate=False))
    trial.load.batches.append(batch)
    with trial.service.database() as connection:
        connection.execute(
            WAITING_ROW, [batch.batch_id, events, payload, trial.load.project.project]
        )
