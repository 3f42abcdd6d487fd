"""Faults of the worker that erases: killed at any moment, it loses nothing of what was to go."""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.payloads import pack, unpack
from ingest.records import StoredRecord
from tests.faults.reckoning import drained, value
from tests.faults.trial import Outcome, Trial, kill
from tests.harness import Project, Service, wait_for

DAYS = 20  # the person's events lie on so many, and go in as many transactions at least
EVENTS_A_DAY = 25
SETTLING_SECONDS = 120.0
LONGEST_DELAY = 2.5
# An erasure takes some seconds, so that a kill at a random moment hits it.
SLOW = """
CREATE OR REPLACE FUNCTION partitions.slow_erasing() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.006); RETURN OLD; END $$;
CREATE OR REPLACE TRIGGER slow_erasing BEFORE DELETE ON ingest_event FOR EACH ROW
    EXECUTE FUNCTION partitions.slow_erasing();
"""
NOT_SLOW = "DROP FUNCTION IF EXISTS partitions.slow_erasing CASCADE"


@dataclass
class Person:
    """Somebody with events of their own on many days, some of them dead."""

    project: Project
    user: str
    mark: str
    token: str = ""
    subject: bytes = b""


def killed_at_erasing(service: Service, times: int) -> Outcome:
    """kill -9 of the privacy worker while it erases: the pool's child, then the whole worker."""
    trial = Trial(service, "killed at erasing")
    project = service.create_project(f"erased {time.time_ns()}")
    struck = 0
    with trial.load:
        for number in range(times):
            gone, stays = (
                Person(project, f"{who}-{number}", f"{what} {number}")
                for who, what in (("gone", "first"), ("stays", "second"))
            )
            for person in (gone, stays):
                _plant(service, person)
            with _slow_erasing(service), trial.fault():
                _ask(service, gone)
                struck += _strike(service, gone, whole=number % 2 == 1)
                with trial.recovery():
                    receipt = _receipt(service, gone)
            _check(service, gone, stays, receipt)
    assert struck, "no kill hit an erasure"
    return trial.outcome(times, f"{struck} hit an erasure at work; all are complete and exact")


def _plant(service: Service, person: Person) -> None:
    """Events on many days, and a dead batch of one of theirs and one of nobody's."""
    for day in range(DAYS):
        moment = (datetime.now(UTC) - timedelta(days=day)).isoformat()
        _post(
            service,
            person.project.ingest_key,
            "/v1/events",
            {
                "user_id": person.user,
                "events": [
                    {"event": person.mark, "timestamp": moment, "n": n} for n in range(EVENTS_A_DAY)
                ],
            },
        )
    wait_for(lambda: _events(service, person) == DAYS * EVENTS_A_DAY, SETTLING_SECONDS, "events")
    query = "SELECT subject FROM ingest_event WHERE name = %s LIMIT 1"
    person.subject = value(service, query, person.mark)
    records = [
        StoredRecord(n, 0, "dead", who, None, "application", None, None, None, None, b"{}")
        for n, who in enumerate((person.subject, None))
    ]
    with service.database() as connection:
        connection.execute(
            """
            INSERT INTO ingest_batch (day, project_id, batch_id, format, state, received_at,
                received, dead, wire_bytes, body_bytes, request_id, payload)
            SELECT now()::date, id, gen_random_uuid(), 'events', 'dead', now(), 2, 2, 1, 1, '', %s
            FROM ingest_project WHERE slug = %s
            """,
            [pack(records), person.project.project],
        )


@contextlib.contextmanager
def _slow_erasing(service: Service) -> Iterator[None]:
    with service.database() as connection:
        connection.execute(SLOW)
    try:
        yield
    finally:
        with service.database() as connection:
            connection.execute(NOT_SLOW)


def _ask(service: Service, person: Person) -> None:
    asked = _post(
        service,
        person.project.secret_key,
        "/v1/telemetry/delete",
        {"user_id": person.user, "grace_days": 0},
    )
    person.token = person.token or asked["deletion_token"]


def _strike(service: Service, person: Person, *, whole: bool) -> bool:
    """Kill at a random moment; whether it was at work then."""
    time.sleep(random.uniform(0, LONGEST_DELAY))
    state = _status(service, person)["status"]
    workers = service.processes("privacy")
    kill(*(workers if whole else workers[1:]))
    return bool(state == "running")


def _receipt(service: Service, person: Person) -> dict[str, Any]:
    """Once it is complete. Asking again is what a person might do, and lets the next one begin."""

    def look() -> dict[str, Any] | None:
        told = _status(service, person)
        assert told["status"] != "failed", told
        if told["receipt"] is None and service.processes("privacy")[1:]:
            _ask(service, person)
            time.sleep(0.5)
        found: dict[str, Any] | None = told["receipt"]
        return found

    found: dict[str, Any] = wait_for(look, SETTLING_SECONDS, "the receipt")
    return found


def _check(service: Service, gone: Person, stays: Person, receipt: dict[str, Any]) -> None:
    """Every row is erased and counted once, and nobody else's is."""
    drained(service)
    events = DAYS * EVENTS_A_DAY
    assert _events(service, gone) == 0
    assert receipt["erased"] == {"ingest_event": events, "ingest_batch": 1}, receipt
    assert _events(service, stays) == events
    with service.database() as connection:
        rows = connection.execute(
            "SELECT payload, received, dead, suppressed FROM ingest_batch JOIN ingest_project p"
            " ON p.id = project_id WHERE p.slug = %s AND state = 'dead'",
            [gone.project.project],
        ).fetchall()
    left = {record.subject for payload, *_ in rows for record in unpack(payload)}
    assert gone.subject not in left
    assert stays.subject in left
    assert all(received == dead + suppressed for _, received, dead, suppressed in rows)


def _events(service: Service, person: Person) -> int:
    """How many are stored. None of the person's is by another name."""
    query = "SELECT count(*) FROM ingest_event WHERE name = %s"
    return int(value(service, query, person.mark) or 0)


def _status(service: Service, person: Person) -> dict[str, Any]:
    told: dict[str, Any] = _post(
        service, "", "/v1/telemetry/delete/status", {"deletion_token": person.token}
    )
    return told


def _post(service: Service, key: str, path: str, content: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
    answer = service.request("POST", path, json.dumps(content).encode(), headers)
    assert answer.status == 200, answer
    return answer.json
