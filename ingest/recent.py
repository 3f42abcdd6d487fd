"""What arrived last at a project, batch by batch: did my event arrive?

Batches are found in the order they came by the ledger's index (ingest_batch_received). Their events
are found by the key of their table, which is led by project and time: a bounded time before the
oldest of these batches is looked through, for a bounded while.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from django.db import OperationalError, connection, transaction
from django.db.models import Q

from ingest import restrictions
from ingest.intake import CLAIM_WINDOW
from ingest.models import Batch, Event, MetricPoint
from ingest.selections import Selection

BATCHES = 50
# With a name asked for, so many are searched for it.
BATCHES_BY_NAME = 500
ROWS = 200
# Events occur before their batch arrives; mostly not for longer.
BEFORE_ARRIVAL = timedelta(hours=1)
PATIENCE_MILLISECONDS = 300
# Formats whose rows are measurements.
MEASURED = frozenset({"metrics", "snapshot", "otlp_metrics"})


@dataclass(frozen=True)
class Asked:
    """Whose arrivals somebody wants to see, and which."""

    project: int
    batch: str = ""
    name: str = ""
    format: str = ""


@dataclass
class Arrival:
    """A batch, and those of its events that were found."""

    batch: Batch
    rows: list[Event | MetricPoint] = field(default_factory=list)

    @property
    def others(self) -> int:
        """Stored events that aren't shown."""
        return max(0, self.batch.stored - len({row.position for row in self.rows}))


@dataclass(frozen=True)
class Arrivals:
    """The latest first. `complete` is false where the tables are too busy to be looked through."""

    latest: list[Arrival]
    complete: bool = True


def arrivals(asked: Asked) -> Arrivals:
    """What arrived last of what is asked."""
    batches = _batches(asked)
    latest = {batch.batch_id: Arrival(batch) for batch in batches if batch.batch_id is not None}
    complete = True
    for model, formats_measured in ((Event, False), (MetricPoint, True)):
        stored = [
            batch for batch in batches
            if batch.stored and (batch.format in MEASURED) is formats_measured
        ]  # fmt: skip
        rows = _rows(model, stored, asked)
        complete = complete and rows is not None
        for row in restrictions.shown(asked.project, rows or []):
            latest[row.batch_id].rows.append(row)
    return Arrivals([one for one in _in_order(batches, latest) if _is_shown(one, asked)], complete)


def _batches(asked: Asked) -> list[Batch]:
    selection = Selection(project=asked.project, format=asked.format)
    found = selection.find(asked.batch) if asked.batch else selection.look()
    return found.first(BATCHES_BY_NAME if asked.name else BATCHES)


def _rows(
    model: type[Event] | type[MetricPoint], batches: Sequence[Batch], asked: Asked
) -> list[Any] | None:
    """Rows of these batches; None where they weren't found in time."""
    if not batches:
        return []
    before = CLAIM_WINDOW if asked.batch else BEFORE_ARRIVAL
    found = model._default_manager.filter(
        Q(name=asked.name) if asked.name else Q(),
        project_id=asked.project,
        batch_id__in=[batch.batch_id for batch in batches],
        occurred_at__gt=min(batch.received_at for batch in batches) - before,
        occurred_at__lte=max(batch.received_at for batch in batches),
    ).order_by("-occurred_at")
    # As many as there are, so that nobody looks further back for more.
    expected = ROWS if batches[0].format in MEASURED else sum(batch.stored for batch in batches)
    try:
        with transaction.atomic():
            _be_quick()
            return list(found[: min(ROWS, expected)])
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            return None
        raise


def _be_quick() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {PATIENCE_MILLISECONDS}")


def _in_order(batches: Sequence[Batch], latest: dict[UUID, Arrival]) -> list[Arrival]:
    """By arrival; a batch's events by their place in it. A duplicate shares its original's id."""
    shown = []
    for batch in batches:
        arrival = latest[batch.batch_id] if batch.batch_id is not None else Arrival(batch)
        if arrival.batch is not batch:
            arrival = Arrival(batch)
        arrival.rows.sort(key=lambda row: row.position)
        shown.append(arrival)
    return shown


def _is_shown(arrival: Arrival, asked: Asked) -> bool:
    """With a name asked for: batches that have it, and those of which nobody knows yet."""
    return not asked.name or bool(arrival.rows) or arrival.batch.state == Batch.State.RECEIVED
