"""Holds the service to its promise: every accepted event is stored once, and nothing else is."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from ingest.payloads import UNREADABLE, unpack
from tests.faults.load import Load, Sent
from tests.harness import Project, Service, wait_for

DRAIN_SECONDS = 120.0
OUTCOMES = ("stored", "duplicate", "rejected", "suppressed", "dead", "waiting")

Key = tuple[str, int]  # batch id and position: what an event is known by


@dataclass(frozen=True)
class Reckoning:
    """A load's batches against the tables, event by event."""

    sent: int  # batches
    accepted: int  # batches
    stored: int  # events, and so are all below
    dead: int
    lost: int
    twice: int
    foreign: int  # stored, but neither accepted nor possibly accepted
    accounting: dict[str, int]


def value(service: Service, query: str, *parameters: Any) -> Any:
    """The first value of a query's answer; None while the database is away."""
    try:
        with service.database() as connection:
            row = connection.execute(query, parameters).fetchone()
            return row[0] if row else None
    except psycopg.OperationalError:
        return None


def waiting(service: Service) -> int | None:
    """How many batches wait to be stored."""
    count: int | None = value(service, "SELECT count(*) FROM ingest_batch WHERE state = 'received'")
    return count


def drained(service: Service, seconds: float = DRAIN_SECONDS) -> None:
    """Wait until nothing waits."""
    wait_for(lambda: waiting(service) == 0, seconds, "everything accepted to be stored")


def reckon(service: Service, load: Load) -> Reckoning:
    """Compare, once nothing waits any more. Fails on what no fault excuses."""
    drained(service)
    assert not (odd := [text for batch in load.batches for text in batch.odd]), odd[:3]
    stored, dead = _stored(service, load.project), _dead(service, load)
    accepted = {key for batch in load.batches if batch.accepted for key in batch.positions}
    possible = {key for batch in load.batches for key in batch.positions}
    reckoning = Reckoning(
        sent=len(load.batches),
        accepted=sum(batch.accepted for batch in load.batches),
        stored=len(stored),
        dead=len(dead - set(stored)),
        lost=len(accepted - set(stored) - dead),
        twice=sum(count - 1 for count in stored.values()) + len(dead & set(stored)),
        foreign=len(set(stored) - possible),
        accounting=accounting(service, load.project),
    )
    _check(reckoning, load.batches)
    return reckoning


def accounting(service: Service, project: Project) -> dict[str, int]:
    """What the service says became of the project's events, all formats together."""
    answer = service.request(
        "GET", "/v1/query/accounting", headers={"X-API-Key": project.secret_key}
    )
    assert answer.status == 200, answer.text
    formats: list[dict[str, int]] = json.loads(answer.text)["formats"]
    return {name: sum(line[name] for line in formats) for name in ("received", *OUTCOMES)}


def _check(found: Reckoning, batches: list[Sent]) -> None:
    counts = found.accounting
    assert (found.lost, found.twice, found.foreign) == (0, 0, 0), found
    assert counts["received"] == sum(counts[name] for name in OUTCOMES), counts
    assert (counts["stored"], counts["dead"]) == (found.stored, found.dead), found
    assert counts["waiting"] == counts["rejected"] == counts["suppressed"] == 0, counts
    least, most = _received(batches)
    assert least <= counts["received"] <= most, (least, most, counts)
    told = sum(batch.events for batch in batches for answer in batch.told if answer.duplicate)
    assert counts["duplicate"] >= told, (told, counts)


def _received(batches: list[Sent]) -> tuple[int, int]:
    """The events the ledger must have seen, and may: each 2xx left a row, a lost answer may have.

    A post on which the database died may have left two rows: the server tries once more.
    """
    least = sum(batch.events * len(batch.told) for batch in batches)
    twice_told = sum(batch.events for batch in batches for told in batch.told if told.duplicate)
    return least, least + twice_told + 2 * sum(b.events * b.uncertain for b in batches)


def _stored(service: Service, project: Project) -> Counter[Key]:
    query = """
        WITH project AS (SELECT id FROM ingest_project WHERE slug = %s)
        SELECT batch_id, position FROM ingest_event, project WHERE project_id = project.id
        UNION ALL
        SELECT batch_id, position FROM ingest_metricpoint, project WHERE project_id = project.id
    """
    with service.database() as connection:
        rows = connection.execute(query, [project.project]).fetchall()
    return Counter((str(batch_id), position) for batch_id, position in rows)


def _dead(service: Service, load: Load) -> set[Key]:
    """The events kept for replay: those in the payloads of dead batches."""
    query = """
        SELECT batch_id, payload FROM ingest_batch
        WHERE state = 'dead' AND project_id = (SELECT id FROM ingest_project WHERE slug = %s)
    """
    with service.database() as connection:
        rows: list[tuple[UUID, bytes]] = connection.execute(
            query, [load.project.project]
        ).fetchall()
    sent = {batch.batch_id: batch for batch in load.batches}
    return {key for batch_id, payload in rows for key in _kept(sent[str(batch_id)], payload)}


def _kept(batch: Sent, payload: bytes) -> set[Key]:
    try:
        return {(batch.batch_id, record.position) for record in unpack(payload)}
    except UNREADABLE:
        return batch.positions
