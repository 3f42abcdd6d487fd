"""Deliveries made in this process, whose settings say where to."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import connection
from django.test import override_settings
from django.utils import timezone

from ingest.copying import Row, Waiting
from ingest.forwarding import deliveries, destinations
from ingest.models import Batch, Delivery, Destination, Event
from ingest.models import Project as ProjectRow
from ingest.records import StoredRecord, microseconds
from tests.harness import Project
from tests.ingest.traces import project_id

# Nobody is asked there.
SOMEWHERE = "https://collector.example.com"
# No address that is public.
NOWHERE = "http://[2001:db8::1]:4318"


@contextmanager
def forwarding_to(url: str) -> Iterator[None]:
    """The instance's collector, as this process sees it; the service itself has none."""
    with override_settings(OTEL_COLLECTOR_ENDPOINT=url):
        yield


def own_destination(project: Project, endpoint: str = SOMEWHERE) -> Destination:
    """Give the project a collector of its own."""
    row = ProjectRow.objects.get(slug=project.project)
    row.otlp_endpoint = endpoint
    row.save()
    return Destination.objects.get(project=row)


def backing_off(project: Project) -> Destination:
    """The project's own, where nobody is: what waits for it stays as it is."""
    found = own_destination(project, NOWHERE)
    now = timezone.now()
    Destination.objects.filter(pk=found.pk).update(
        endpoint=NOWHERE, failures=3, failing_since=now, retry_at=now + timedelta(hours=1),
        last_error="nobody is there", last_error_at=now,
    )  # fmt: skip
    found.refresh_from_db()
    return found


def deliver(destination: Destination, state: str = "dead", **columns: Any) -> Delivery:
    """A row of the outbox, of a batch that there is not."""
    now = timezone.now()
    values: dict[str, Any] = {
        "day": now.date(), "project_id": destination.project_id, "destination_id": destination.pk,
        "ledger_day": now.date(), "ledger_id": uuid4().int % 10**12, "batch_id": uuid4(),
        "signal": "logs", "state": state, "received_at": now, "waiting_since": now,
        "moments": [now], "items": 2, "body_bytes": 100,
        "settled_at": None if state == "waiting" else now, **columns,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO ingest_delivery ({', '.join(values)})"
            f" VALUES ({', '.join(['%s'] * len(values))}) RETURNING id",
            list(values.values()),
        )
        (number,) = cursor.fetchone()
    return Delivery.objects.get(day=values["day"], pk=number)


def deliveries_of(project: Project) -> list[Delivery]:
    return list(Delivery.objects.filter(project_id=project_id(project)).order_by("id"))


def queue_of(destination: Destination, signal: str = "logs") -> destinations.Queue:
    """What waits there, which is something."""
    (found,) = [one for one in destinations.queues() if one.key == (destination.pk, signal)]
    return found


def write_for(project: Project, batch_ids: list[UUID]) -> None:
    """Deliveries of batches that were stored when nothing was to be forwarded."""
    deliveries.write(
        [row for batch_id in batch_ids for row in _rows(Batch.objects.get(batch_id=batch_id))], []
    )


def _rows(batch: Batch) -> Iterator[Row]:
    waiting = Waiting(
        batch.pk, batch.day, batch.project_id, batch.batch_id, batch.body_bytes, 0,
        batch.request_id, batch.format, batch.received_at, batch.stored, replayed=False,
    )  # fmt: skip
    for event in Event.objects.filter(batch_id=batch.batch_id):
        yield Row(
            waiting,
            StoredRecord(
                event.position, microseconds(event.occurred_at), event.name, None, None,
                event.category, None, None, None, None, b"{}",
            ),
        )  # fmt: skip
