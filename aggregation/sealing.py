"""Taking persons out of what can't be counted anew any more.

What is sealed has no sketches, which could tell whether somebody is in them, and of each dimension
no value of fewer people than the project's threshold: those are counted together as `(other)`.
Counts and bytes add up as before.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import BinaryField, Value

from aggregation.definitions import ALL, OTHER, TABLES, Bucket
from aggregation.event_rollups import Tally
from aggregation.models import EventBucket, Kind, Level, MetricBucket, Policy, Seal

_NOTHING = Value(b"", output_field=BinaryField())


def wipe(seal: Seal) -> Iterator[str]:
    """Take persons out of a month, its days and what hours there are, a bucket a transaction.

    Whoever is killed leaves a bucket as it was, or done. Yields after each, what it was.
    """
    kind = Kind(seal.kind)
    month = Bucket(Level.MONTH, seal.month, seal.project_id, kind)
    policy = Policy.objects.filter(pk=seal.project_id).first() or Policy()
    for level in Level:
        for start in _with_sketches(TABLES[kind, level], month):
            with transaction.atomic():
                # Whoever else is at it waits, and finds nothing left to do.
                Seal.objects.select_for_update().get(pk=seal.pk)
                _wipe(TABLES[kind, level], seal.project_id, start, policy.threshold)
            yield f"{level.name.lower()} {start:%Y-%m-%d %H:%M} in {seal} wiped"
    seal.wiped = True
    seal.save(update_fields=["wiped"])


def _wipe(table: Any, project_id: int, start: datetime, threshold: int) -> None:
    rows, sketches = _of(table, project_id, start), _sketches(table)
    if rows.exclude(**dict.fromkeys(sketches, b"")).exists():
        if issubclass(table, EventBucket):
            _fold(table, project_id, start, threshold)
        rows.update(**dict.fromkeys(sketches, _NOTHING))


def _with_sketches(table: Any, month: Bucket) -> list[datetime]:
    """The buckets of a month that have some."""
    found = table.objects.filter(
        project_id=month.project_id, bucket__gte=month.start, bucket__lt=month.end
    ).exclude(**dict.fromkeys(_sketches(table), b""))
    return sorted(set(found.values_list("bucket", flat=True)))


def _sketches(table: type[EventBucket] | type[MetricBucket]) -> list[str]:
    return [field.name for field in table._meta.fields if field.name.endswith("_sketch")]


def _of(table: Any, project_id: int, start: datetime) -> Any:
    return table.objects.filter(project_id=project_id, bucket=start)


def _fold(table: type[EventBucket], project_id: int, start: datetime, threshold: int) -> None:
    """Count each dimension's values of few people together."""
    dimensions: dict[str, list[EventBucket]] = {}
    for row in _of(table, project_id, start).exclude(dimension=ALL):
        dimensions.setdefault(row.dimension, []).append(row)
    for name, rows in dimensions.items():
        few = _few(rows, threshold)
        if not few:
            continue
        other = Tally()
        for row in few:
            other.add(row)
        of_the_dimension = _of(table, project_id, start).filter(dimension=name)
        of_the_dimension.filter(value__in=[row.value for row in few]).delete()
        table.objects.create(  # type: ignore[attr-defined]
            project_id=project_id,
            dimension=name,
            bucket=start,
            value=OTHER,
            **other.columns,
        )


def _few(rows: list[EventBucket], threshold: int) -> list[EventBucket]:
    """The values to be counted together: those of few people, and where these are few together
    the next, until they are enough or there is none left."""
    if threshold <= 1:
        return []
    waiting = sorted(rows, key=lambda row: (row.people, row.value))
    few = [row for row in waiting if row.people < threshold or row.value == OTHER]
    if not any(row.people < threshold for row in few):
        return []
    rest = [row for row in waiting if row not in few]
    people = Tally().people
    for row in few:
        people.unite(bytes(row.people_sketch))
    while people.count < threshold and rest:
        row = rest.pop(0)
        few.append(row)
        people.unite(bytes(row.people_sketch))
    return few
