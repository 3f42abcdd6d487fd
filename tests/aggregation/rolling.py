"""Storing events and points at any hour, and rolling them up in the transaction of a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.utils import timezone

from aggregation import marks, rollups
from aggregation.models import DirtyMark, DirtyPerson, EventHour, Level
from ingest.records import StoredPoint, StoredRecord, microseconds
from tests.harness import Project
from tests.ingest.traces import project_id
from tests.ingest.waiting import plant, record, store_all, storing

HOUR = timedelta(hours=1)
Counts = dict[tuple[str, str], tuple[int, int, int]]


@contextmanager
def rolling() -> Iterator[None]:
    """A transaction whose rows the service's worker doesn't see; nothing waits for its turn."""
    with pytest.MonkeyPatch.context() as patched, storing():
        patched.setattr(marks, "LEAST_SECONDS", 0)
        patched.setattr(marks, "PATIENCE", 0)
        # Other tests' buckets are theirs: rolling up makes whatever is dirty.
        DirtyMark.objects.all().delete()
        DirtyPerson.objects.all().delete()
        yield


def hour(ago: int = 2) -> datetime:
    """The first moment of an hour so many hours ago."""
    return timezone.now().astimezone(UTC).replace(minute=0, second=0, microsecond=0) - ago * HOUR


def event(name: str = "e", at: datetime | None = None, **fields: Any) -> StoredRecord:
    return record(0, name=name, occurred=microseconds(at or hour()), **fields)


def point(at: datetime | None = None, kind: str = "gauge", **fields: Any) -> StoredPoint:
    """A measurement as it waits in the ledger."""
    whole: dict[str, Any] = {
        "name": "m", "subject": None, "node": None, "tags": b"{}", "cumulative": False,
        "value": None, "samples": None, "count": None, "sum": None, "min": None, "max": None,
    }  # fmt: skip
    return StoredPoint(
        position=0, part=0, occurred=microseconds(at or hour()), kind=kind, **(whole | fields)
    )


def store(project: Project, *items: StoredRecord | StoredPoint) -> None:
    """Store these events or points, as one batch."""
    placed = [msgspec.structs.replace(one, position=n) for n, one in enumerate(items)]
    store_all(plant(project, placed))


def roll_up(*levels: Level) -> None:
    """Make what is dirty of these levels, or of all."""
    rollups.roll_up(levels or tuple(Level), 60)


def hashed(number: int) -> bytes:
    """A keyed hash, as that of a person or a session."""
    return number.to_bytes(2, "big") * 8


def counts(project: Project, table: Any = EventHour, **which: Any) -> Counts:
    """Count, people and sessions by dimension and value, of one bucket or a table's only one."""
    found = table.objects.filter(project_id=project_id(project), **which)
    return {(row.dimension, row.value): (row.count, row.people, row.sessions) for row in found}
