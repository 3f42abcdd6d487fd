"""Batches put straight into the ledger, as intake would never make them, and storing them here.

`storing` does it inside one transaction of this process: the service's own worker, which runs all
the while, doesn't see the rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.utils import timezone

from ingest import storage
from ingest.attempts import attempts
from ingest.models import Batch, Event
from ingest.payloads import pack
from ingest.records import StoredRecord, microseconds
from tests.harness import Project
from tests.ingest.traces import project_id


def record(position: int = 0, properties: bytes = b"{}", **fields: Any) -> StoredRecord:
    """A record as it waits in the ledger."""
    whole: dict[str, Any] = {
        "occurred": microseconds(timezone.now()),
        "name": "planted",
        "subject": None,
        "session": None,
        "category": "application",
        "level": None,
        "scope": None,
        "client_version": None,
        "message": None,
    }
    return StoredRecord(position=position, properties=properties, **(whole | fields))


def occurred(ago: timedelta) -> int:
    return microseconds(timezone.now() - ago)


def plant(
    project: Project,
    content: list[StoredRecord] | bytes,
    *,
    state: str = "received",
    received_at: datetime | None = None,
    **columns: Any,
) -> Batch:
    """A row of the ledger with these records, or with these bytes, as its payload."""
    moment = received_at or timezone.now()
    payload = content if isinstance(content, bytes) else pack(content)
    values: dict[str, Any] = {
        "day": moment.astimezone(UTC).date(),
        "project_id": project_id(project),
        "batch_id": uuid4(),
        "format": "events",
        "state": state,
        "received_at": moment,
        "received": len(content) if isinstance(content, list) else 1,
        "wire_bytes": 100,
        "body_bytes": 100,
        "request_id": "planted",
        "payload": payload,
        **columns,
    }
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO ingest_batch ({', '.join(values)})"
            f" VALUES ({', '.join(['%s'] * len(values))}) RETURNING id",
            list(values.values()),
        )
        (ledger_id,) = cursor.fetchone()
    return Batch.objects.get(day=values["day"], pk=ledger_id)


@contextmanager
def storing() -> Iterator[None]:
    """A transaction in which batches are planted and stored; rolled back at its end."""
    attempts.open()
    with transaction.atomic():
        try:
            yield
        finally:
            transaction.set_rollback(True)


def store_all(*batches: Batch) -> None:
    """Store until none of these batches waits, and read them again."""
    for _ in range(20):
        storage.store_suspect()
        storage.store_group()
        reread(*batches)
        if not any(batch.state == "received" for batch in batches):
            return
    raise AssertionError(f"still waiting: {[batch.state for batch in batches]}")


def reread(*batches: Batch) -> None:
    for batch in batches:
        fresh = Batch.objects.get(day=batch.day, pk=batch.pk)
        batch.__dict__.update(fresh.__dict__)


def positions(batch: Batch | UUID) -> list[int]:
    """Which events of a batch are stored."""
    batch_id = batch.batch_id if isinstance(batch, Batch) else batch
    found = Event.objects.filter(batch_id=batch_id).order_by("position")
    return list(found.values_list("position", flat=True))


def note_of_a_death(*batches: Batch) -> int:
    """What a worker leaves behind that dies while it stores these batches."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ingest_attempt (batches, started_at) VALUES (%s, now()) RETURNING id",
            [[batch.pk for batch in batches]],
        )
        (note,) = cursor.fetchone()
        return int(note)


def partition_exists(table: str, day: date) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [f"partitions.{table}_{day:%Y%m%d}"])
        return cursor.fetchone()[0] is not None
