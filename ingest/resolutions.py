"""Replaying or discarding all dead batches that match: in short chunks that a kill can't undo."""

import logging
import time

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.fields.tuple_lookups import Tuple, TupleGreaterThan, TupleLessThanOrEqual
from django.utils import timezone

from ingest import storage
from ingest.attempts import FORGIVEN
from ingest.models import Batch, Resolution
from ingest.nudges import nudger
from ingest.selections import Selection
from telemetry_site.celery import BROKER_ERRORS, app, broker_connection

logger = logging.getLogger(__name__)

TASK = "ingest.tasks.resolve_dead"
# Batches a transaction: its locks are short, and its progress is seen.
CHUNK = 500
_ACTIONS = {
    Resolution.Action.REPLAY: storage.replay,
    Resolution.Action.DISCARD: storage.discard,
}


class AtWork(Exception):
    """Another resolution is under way."""


def start(action: str, selection: Selection, by: int) -> None:
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
        resolution.done += _ACTIONS[Resolution.Action(resolution.action)](keys)
        if keys:
            resolution.day, resolution.batch = keys[-1]
        if len(keys) < CHUNK:
            resolution.finished_at = timezone.now()
        resolution.save()
    if keys and resolution.action == Resolution.Action.REPLAY:
        nudger.request()
    return resolution.finished_at is None


def _begin(resolution: Resolution) -> None:
    """Fix which are meant: those dead now. One that is replayed and dies again comes no second
    time."""
    dead = _matching(resolution)
    last = dead.order_by("-day", "-id").values_list("day", "id").first()
    if last is not None:
        resolution.last_day, resolution.last_batch = last
    resolution.total = dead.count()


def _left(resolution: Resolution) -> QuerySet[Batch]:
    """What is still to be done, in order. Index: ingest_batch_dead."""
    if resolution.last_day is None:
        return Batch.objects.none()
    place = Tuple("day", "id")
    left = _matching(resolution).filter(
        TupleLessThanOrEqual(place, (resolution.last_day, resolution.last_batch))
    )
    if resolution.day is not None:
        left = left.filter(TupleGreaterThan(place, (resolution.day, resolution.batch)))
    return left.order_by("day", "id")


def _matching(resolution: Resolution) -> QuerySet[Batch]:
    return Selection.parse({**resolution.matching, "state": Batch.State.DEAD.value}).all()
