"""Erasing one person out of many events while others are stored: from request to receipt."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from tests.benchmarks.load import Generator, Plan
from tests.benchmarks.stacks import Ours
from tests.harness import wait_for

PERSON_EVENTS = 10_000
MOST_SECONDS = 10
# Of the batches of 100 that come meanwhile.
REQUESTS_A_SECOND = 20
ROWS_AT_ONCE = 500_000
DAYS = 30

# Everybody has 20 events in a session; the person has theirs all over the days and sessions.
FILL = """
INSERT INTO ingest_event
    (project_id, occurred_at, batch_id, position, subject, session, name, category, properties)
SELECT %(project)s, now() - %(days)s * interval '1 day' * n / %(rows)s,
    md5((n / 100)::text || %(person)s::bytea::text)::uuid, n %% 100,
    CASE WHEN n %% (%(rows)s / %(events)s) = 0 THEN %(person)s
        ELSE decode(md5((n / 20 %% 100000)::text), 'hex') END,
    CASE WHEN n %% (%(rows)s / %(events)s) = 0 THEN decode(md5((n / 1000000)::text), 'hex')
        ELSE decode(md5((n / 20)::text), 'hex') END,
    'made', 'application', '{"button": "save", "took": 12}'
FROM generate_series(%(from)s::bigint, %(to)s) AS n
"""


@dataclass(frozen=True)
class Erased:
    """One erasure: out of so many rows, in which time, with how many batches stored meanwhile."""

    rows: int
    seconds: float
    batches: int


def run(sizes: list[int]) -> Iterator[Erased]:
    """Erase a person of `PERSON_EVENTS` events out of so many rows, each size once."""
    with Ours() as ours, ours.superuser() as connection:
        secret = ours.create_project("Erasing")
        connection.execute("SET statement_timeout = 0")
        for rows in sizes:
            connection.execute("TRUNCATE ingest_event")
            user = f"person of {rows}"
            fill(connection, rows, _pseudonym(ours, connection, user, secret.ingest_key))
            connection.execute("VACUUM ANALYZE ingest_event")
            yield _erase(ours, connection, secret.secret_key, user, rows)


def fill(connection: psycopg.Connection[Any], rows: int, person: tuple[int, bytes]) -> None:
    """So many events, of which `PERSON_EVENTS` are the person's.

    Without the indexes that are made in no order: putting them up afterwards takes a fifth.
    """
    found = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'ingest_event'"
        " AND indexname IN ('ingest_event_subject', 'ingest_event_session')"
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}")
    _insert(connection, rows, person)
    for _, definition in found:
        connection.execute(definition.replace(" ON ONLY ", " ON "))


def _insert(connection: psycopg.Connection[Any], rows: int, person: tuple[int, bytes]) -> None:
    for start in range(1, rows + 1, ROWS_AT_ONCE):
        connection.execute(
            FILL,
            {
                "project": person[0],
                "person": person[1],
                "rows": rows,
                "events": PERSON_EVENTS,
                "days": DAYS,
                "from": start,
                "to": min(start + ROWS_AT_ONCE - 1, rows),
            },
        )


def _pseudonym(
    ours: Ours, connection: psycopg.Connection[Any], user: str, key: str
) -> tuple[int, bytes]:
    """The project and what stands for the person in it, as an event of theirs shows it."""
    event = {"event": "first", "timestamp": datetime.now(UTC).isoformat(), "user_id": user}
    body = json.dumps({"events": [event]}).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    assert ours.request("POST", "/v1/events", body, headers).status == 200
    query = "DELETE FROM ingest_event WHERE name = 'first' RETURNING project_id, subject"
    found: tuple[int, bytes] = wait_for(
        lambda: connection.execute(query).fetchone(), 30, "the person's first event"
    )
    return found


def _erase(
    ours: Ours, connection: psycopg.Connection[Any], key: str, user: str, rows: int
) -> Erased:
    """Ask for it at once, and wait for the receipt, while batches of others come."""
    requests = REQUESTS_A_SECOND * MOST_SECONDS * 3
    plan = Plan(ours.target, requests, 100, rows, MOST_SECONDS * 3, rate=REQUESTS_A_SECOND)
    load = Generator(plan)
    stored = "SELECT count(*) FROM ingest_batch WHERE state = 'stored'"
    load.start()
    before = connection.execute(stored).fetchone()[0]
    begun = time.monotonic()
    asked = _post(ours, "/v1/telemetry/delete", {"user_id": user, "grace_days": 0}, key)
    token = {"deletion_token": asked["deletion_token"]}

    def receipt() -> Any:
        told = _post(ours, "/v1/telemetry/delete/status", token, key)
        assert told["status"] != "failed", told
        return told["receipt"]

    found = wait_for(receipt, MOST_SECONDS * 6, "the receipt")
    seconds = time.monotonic() - begun
    after = connection.execute(stored).fetchone()[0]
    assert found["erased"] == {"ingest_event": PERSON_EVENTS}, found
    outcome = load.finish()
    assert outcome.refused == 0, outcome.statuses
    return Erased(rows, seconds, after - before)


def _post(ours: Ours, path: str, content: dict[str, Any], key: str) -> Any:
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    answer = ours.request("POST", path, json.dumps(content).encode(), headers)
    assert answer.status == 200, answer
    return answer.json
