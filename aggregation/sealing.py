"""Taking persons out of what can't be counted anew any more.

What is sealed has no sketches, which could tell whether somebody is in them, and says nothing of
groups of fewer people than the project's threshold. What was withheld stays withheld, and what
wasn't stays as it was: a group that had few people on a day isn't left out there, since the month
and its other days would give it away.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, LiteralString

from django.db import connection, transaction
from django.db.models import BinaryField, Value
from psycopg import sql

from aggregation.definitions import ALL, FEW, TABLES, Bucket
from aggregation.models import Kind, Level, Policy, Seal

_NOTHING = Value(b"", output_field=BinaryField())


def wipe(seal: Seal) -> Iterator[str]:
    """Take persons out of a month, its days and what hours there are.

    First the small groups, at all levels at once: they are those of the month. Whoever is killed
    leaves a bucket as it was, or done. Yields after each transaction, what it did.
    """
    kind = Kind(seal.kind)
    month = Bucket(Level.MONTH, seal.month, seal.project_id, kind)
    with transaction.atomic():
        # Whoever else is at it waits, and finds nothing left to do.
        Seal.objects.select_for_update().get(pk=seal.pk)
        _forget_few(month)
    yield f"small groups in {seal} wiped"
    for level in Level:
        table: Any = TABLES[kind, level]
        for start in _with_sketches(table, month):
            rows = table.objects.filter(project_id=seal.project_id, bucket=start)
            rows.update(**dict.fromkeys(_sketches(table), _NOTHING))
            yield f"{level.name.lower()} {start:%Y-%m-%d %H:%M} in {seal} wiped"
    seal.wiped = True
    seal.save(update_fields=["wiped"])


def _with_sketches(table: Any, month: Bucket) -> list[datetime]:
    """The buckets of a month that have some."""
    found = table.objects.filter(
        project_id=month.project_id, bucket__gte=month.start, bucket__lt=month.end
    ).exclude(**dict.fromkeys(_sketches(table), b""))
    return sorted(set(found.values_list("bucket", flat=True)))


def _sketches(table: Any) -> list[str]:
    return [field.name for field in table._meta.fields if field.name.endswith("_sketch")]


def _forget_few(month: Bucket) -> None:
    """Forget the groups of few people in a month, and what others have of few in a day or hour."""
    policy = Policy.of(month.project_id)
    forget = _EVENTS if month.kind == Kind.EVENTS else _POINTS
    given: dict[str, Any] = {
        "project": month.project_id,
        "start": month.start,
        "end": month.end,
        # What is one person's alone doesn't stay for good, wherever everything is shown.
        "k": max(policy.threshold, 2),
        "all": ALL,
        "few": FEW,
    }
    with connection.cursor() as cursor:
        # The month last: it says which groups are meant.
        for level in Level:
            words = {
                "table": sql.Identifier(TABLES[month.kind, level]._meta.db_table),
                "month": sql.Identifier(TABLES[month.kind, Level.MONTH]._meta.db_table),
            }
            for statement in forget:
                cursor.execute(sql.SQL(statement).format(**words), given)


# Those of few people in the month are one group of nobody, which is withheld as they were. What
# others have of few is nothing, and of nobody: it is withheld still, and so is what goes with it.
_EVENTS: tuple[LiteralString, ...] = (
    """
    WITH gone AS (
        DELETE FROM {table} WHERE project_id = %(project)s AND dimension <> %(all)s
            AND bucket >= %(start)s AND bucket < %(end)s AND (value = %(few)s
                OR (dimension, value) IN (
                    SELECT dimension, value FROM {month}
                    WHERE project_id = %(project)s AND bucket = %(start)s AND people < %(k)s
                ))
        RETURNING dimension, bucket, count, bytes
    )
    INSERT INTO {table} (project_id, dimension, bucket, value, count, bytes, people, sessions,
        people_sketch, sessions_sketch)
    SELECT %(project)s, dimension, bucket, %(few)s, sum(count), sum(bytes), 0, 0, '', ''
    FROM gone GROUP BY dimension, bucket
    """,
    """
    UPDATE {table} SET count = 0, bytes = 0, people = 0, sessions = 0
    WHERE project_id = %(project)s AND dimension <> %(all)s AND value <> %(few)s
        AND bucket >= %(start)s AND bucket < %(end)s AND people < %(k)s
    """,
)
# Series of few are withheld by themselves. Those without anybody are machines', and stay.
_POINTS: tuple[LiteralString, ...] = (
    """
    DELETE FROM {table} WHERE project_id = %(project)s
        AND bucket >= %(start)s AND bucket < %(end)s AND (name, series) IN (
            SELECT name, series FROM {month}
            WHERE project_id = %(project)s AND bucket = %(start)s AND people BETWEEN 1 AND %(k)s - 1
        )
    """,
    """
    UPDATE {table} SET count = 0, people = 0, sum = NULL, min = NULL, max = NULL, first = NULL,
        first_at = NULL, last = NULL, last_at = NULL, increase = NULL, quantiles = ''
    WHERE project_id = %(project)s
        AND bucket >= %(start)s AND bucket < %(end)s AND people BETWEEN 1 AND %(k)s - 1
    """,
)
