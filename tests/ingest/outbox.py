"""Deliveries made in this process, whose settings say where to."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.test import override_settings

from ingest.copying import Row, Waiting
from ingest.forwarding import deliveries, destinations
from ingest.models import Batch, Delivery, Destination, Event
from ingest.models import Project as ProjectRow
from ingest.records import StoredRecord, microseconds
from tests.harness import Project
from tests.ingest.traces import project_id

# Nobody is asked there.
SOMEWHERE = "https://collector.example.com"


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
