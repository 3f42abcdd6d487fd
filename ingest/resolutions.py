"""Settling all dead batches, or deliveries, that match: in short chunks that a kill can't undo."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.fields.tuple_lookups import Tuple, TupleGreaterThan, TupleLessThanOrEqual
from django.utils import timezone

from ingest import storage
from ingest.attempts import FORGIVEN
from ingest.forwarding import deliveries
from ingest.forwarding.selections import DeliverySelection
from ingest.models import Batch, Delivery, Resolution
from ingest.nudges import nudger
from ingest.selections import Selection
from telemetry_site.celery import BROKER_ERRORS, app, broker_connection

logger = logging.getLogger(__name__)

TASK = "ingest.tasks.resolve_dead"
# Batches a transaction: its locks are short, and its progress is seen.
CHUNK = 500
AnySelection = Selection | DeliverySelection


@dataclass(frozen=True, slots=True)
class _Way:
    """What an action does with rows, by day and id, and which rows match it now."""

    settle: Callable[[list[tuple[date, int]]], int]
    matching: Callable[[dict[str, str]], QuerySet[Any]]


def _dead(asked: dict[str, str]) -> QuerySet[Batch]:
    """Index: ingest_batch_dead."""
    return Selection.parse({**asked, "state": Batch.State.DEAD.value}).all()


def _undelivered(asked: dict[str, str]) -> QuerySet[Delivery]:
    """Index: ingest_delivery_dead."""
    return DeliverySelection.parse(asked).undelivered()


_WAYS = {
    Resolution.Action.REPLAY: _Way(storage.replay, _dead),
    Resolution.Action.DISCARD: _Way(storage.discard, _dead),
    Resolution.Action.FORWARD: _Way(deliveries.replay, _undelivered),
}


class AtWork(Exception):
    """Another resolution is under way."""


def start(action: str, selection: AnySelection, by: int) -> None:
    """Write down what shall be done, and let a worker do it. Raises AtWork."""
    try:
        with transaction.atomic():
            Resolution.objects.create(action=action, matching=selection.given, started_by_id=by)
    except IntegrityError:
        raise AtWork from None
    try:
        with broker_connection() as broker:
            app.send_task(TASK, queue="default", connection=broker, retry=False)
    except BROKER_ERRORS as error:
        logger.warning("dead batches wait for the schedule: %s", type(error).__name__)


def cancel(resolution_id: int) -> bool:
    """End it before its next chunk; False where it has ended. What is done stays done."""
    return bool(
        Resolution.objects.filter(pk=resolution_id, finished_at=None).update(
            finished_at=timezone.now(), cancelled=True
        )
    )


def go_on(seconds: float) -> bool:
    """Work on what is under way until the time is over; whether some is left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not _chunk():
                return False
        except FORGIVEN:
            raise
        except Exception as error:
            # It would come again for ever.
            logger.exception("a resolution failed")
            _fail(type(error).__name__)
    return True


def _fail(error: str) -> None:
    Resolution.objects.filter(finished_at=None).update(finished_at=timezone.now(), error=error)


def _chunk() -> bool:
    """Settle some batches and write down how far it is; False where nothing is under way here."""
    with transaction.atomic():
        under_way = Resolution.objects.filter(finished_at=None)
        # Held by whoever works on it; a worker that was killed holds nothing.
        resolution = under_way.select_for_update(skip_locked=True).first()
        if resolution is None:
            return False
        if resolution.total is None:
            _begin(resolution)
        keys = [*_left(resolution)[:CHUNK].values_list("day", "id")]
        resolution.done += _way(resolution).settle(keys)
        if keys:
            resolution.day, resolution.batch = keys[-1]
        if len(keys) < CHUNK:
            resolution.finished_at = timezone.now()
        resolution.save()
    if keys and resolution.action == Resolution.Action.REPLAY:
        nudger.request()
    return resolution.finished_at is None


def _begin(resolution: Resolution) -> None:
    """Fix which are meant: those that match now. One that is replayed and dies again comes no
    second time."""
    matching = _matching(resolution)
    last = matching.order_by("-day", "-id").values_list("day", "id").first()
    if last is not None:
        resolution.last_day, resolution.last_batch = last
    resolution.total = matching.count()


def _left(resolution: Resolution) -> QuerySet[Any]:
    """What is still to be done, in order."""
    matching = _matching(resolution)
    if resolution.last_day is None:
        return matching.none()
    place = Tuple("day", "id")
    left = matching.filter(
        TupleLessThanOrEqual(place, (resolution.last_day, resolution.last_batch))
    )
    if resolution.day is not None:
        left = left.filter(TupleGreaterThan(place, (resolution.day, resolution.batch)))
    return left.order_by("day", "id")


def _matching(resolution: Resolution) -> QuerySet[Any]:
    return _way(resolution).matching(resolution.matching)


def _way(resolution: Resolution) -> _Way:
    return _WAYS[Resolution.Action(resolution.action)]
