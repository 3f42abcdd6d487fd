"""Which buckets have to be made anew, and until when everything is."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models import Min
from django.utils import timezone
from psycopg import sql

from aggregation.definitions import RAW, Bucket
from aggregation.models import DirtyMark, DirtyPerson, Kind, Level
from ingest.partitions import Partitioned

# A bucket that goes on changing is made again after so many times what it took, and not sooner than
# after so many seconds.
PATIENCE = 20
LEAST_SECONDS = 60
# Whoever asks what waits looks at so many: a scrape must not take long because there is much to do.
MOST_MARKS = 100_000


@dataclass(frozen=True, slots=True)
class Seen:
    """The marks of a bucket that were there before its data was read."""

    ids: list[int]
    erasing: bool
    marked_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """The dirty buckets of a level, and for how long one could have been made that is over."""

    buckets: int
    seconds: float


def backlog() -> dict[Level, Backlog]:
    """What waits to be made, by level. Of very many marks the oldest are looked at."""
    given = {"patience": PATIENCE, "least": LEAST_SECONDS, "most": MOST_MARKS}
    with connection.cursor() as cursor:
        cursor.execute(_BACKLOG, given)
        found = {level: Backlog(count, seconds) for level, count, seconds in cursor.fetchall()}
    return {level: found.get(level, Backlog(0, 0.0)) for level in Level}


def due(level: Level, most: int) -> list[Bucket]:
    """Buckets of a level that are dirty and may be made now, the longest dirty first.

    One that was made a moment ago, and is dirty again, waits: the open hour is, all the time.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"level": level, "patience": PATIENCE, "least": LEAST_SECONDS,
                              "most": most})  # fmt: skip
        return [
            Bucket(level, start, project, Kind(kind)) for project, kind, start in cursor.fetchall()
        ]


def seen(bucket: Bucket) -> Seen | None:
    """The marks of a bucket that can be seen now; None where it is clean."""
    found = DirtyMark.objects.filter(
        project_id=bucket.project_id, kind=bucket.kind, level=bucket.level, bucket=bucket.start
    ).values_list("pk", "erasing", "marked_at")
    if not found:
        return None
    ids, erasing, marked_at = zip(*found, strict=True)
    return Seen([*ids], any(erasing), min(marked_at))


def settle(bucket: Bucket, marks: Seen, seconds: float) -> None:
    """Take away the marks of a bucket that took so long to make, in the transaction that replaces
    it; what is made from it is dirty now."""
    forget(marks)
    with connection.cursor() as cursor:
        cursor.execute(
            _BUILT, [bucket.project_id, bucket.kind, bucket.level, bucket.start, seconds]
        )
    if above := bucket.above:
        DirtyMark.objects.create(
            project_id=above.project_id,
            kind=above.kind,
            level=above.level,
            bucket=above.start,
            erasing=marks.erasing,
            marked_at=marks.marked_at,
        )


def forget(marks: Seen) -> None:
    """Take marks away."""
    DirtyMark.objects.filter(pk__in=marks.ids).delete()


def complete_until(
    project_id: int, kind: Kind, level: Level, using: str = DEFAULT_DB_ALIAS
) -> datetime:
    """All events that are stored, and occurred before this, are in the buckets of a level."""
    now = timezone.now()
    marks = DirtyMark.objects.using(using).filter(
        project_id=project_id, kind=kind, level__lte=level
    )
    return _earliest(now, marks.aggregate(Min("bucket")))


def clean_until(
    project_id: int, kind: Kind, level: Level, using: str = DEFAULT_DB_ALIAS
) -> datetime:
    """Whoever asked for erasure before this is in no bucket of a level."""
    now = timezone.now()
    marks = DirtyMark.objects.using(using).filter(
        project_id=project_id, kind=kind, level__lte=level, erasing=True
    )
    people = DirtyPerson.objects.using(using).filter(project_id=project_id)
    return _earliest(now, marks.aggregate(Min("marked_at")), people.aggregate(Min("marked_at")))


def _earliest(now: datetime, *found: dict[str, datetime | None]) -> datetime:
    return min([now, *(moment for one in found for moment in one.values() if moment)])


def spread_persons() -> None:
    """Mark the hours of persons who don't count any more, or count again."""
    for person in DirtyPerson.objects.order_by("pk"):
        with transaction.atomic():
            if DirtyPerson.objects.filter(pk=person.pk).delete()[0]:
                for kind, table in RAW.items():
                    _mark_hours(person, kind, table)


def _mark_hours(person: DirtyPerson, kind: Kind, table: Partitioned) -> None:
    statement = sql.SQL(_OF_A_PERSON).format(sql.Identifier(table.table))
    with connection.cursor() as cursor:
        # No plan may read a whole table, whatever the statistics say.
        cursor.execute("SET LOCAL enable_seqscan = off")
        subject = bytes(person.subject)
        cursor.execute(statement, [kind, person.marked_at, person.project_id, subject])


_DUE = """
    SELECT dirty.project_id, dirty.kind, dirty.bucket FROM (
        SELECT project_id, kind, bucket, min(marked_at) AS since FROM aggregation_dirtymark
        WHERE level = %(level)s GROUP BY project_id, kind, bucket
    ) AS dirty
    LEFT JOIN aggregation_build AS built
        ON built.project_id = dirty.project_id AND built.kind = dirty.kind
            AND built.bucket = dirty.bucket AND built.level = %(level)s
    WHERE built.built_at IS NULL OR clock_timestamp() >= built.built_at
        + make_interval(secs => greatest(%(least)s, %(patience)s * built.seconds))
    ORDER BY dirty.since, dirty.bucket LIMIT %(most)s
"""
# The open hour, day and month are dirty nearly always.
_BACKLOG = """
    SELECT level, count(*), coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(since)
        FILTER (WHERE bucket < date_trunc(
            CASE level WHEN 0 THEN 'hour' WHEN 1 THEN 'day' ELSE 'month' END, now(), 'UTC'
        ))))::float8, 0)
    FROM (
        SELECT dirty.level, dirty.bucket, greatest(dirty.since, built.built_at
            + make_interval(secs => greatest(%(least)s, %(patience)s * built.seconds))) AS since
        FROM (
            SELECT project_id, kind, level, bucket, min(marked_at) AS since
            FROM (SELECT * FROM aggregation_dirtymark ORDER BY id LIMIT %(most)s) AS oldest
            GROUP BY project_id, kind, level, bucket
        ) AS dirty
        LEFT JOIN aggregation_build AS built
            ON built.project_id = dirty.project_id AND built.kind = dirty.kind
                AND built.level = dirty.level AND built.bucket = dirty.bucket
    ) AS waiting GROUP BY level
"""
_BUILT = """
    INSERT INTO aggregation_build (project_id, kind, level, bucket, built_at, seconds)
    VALUES (%s, %s, %s, %s, clock_timestamp(), %s)
    ON CONFLICT (project_id, kind, level, bucket)
        DO UPDATE SET built_at = EXCLUDED.built_at, seconds = EXCLUDED.seconds
"""
# Index ingest_event_subject or ingest_metricpoint_subject.
_OF_A_PERSON: LiteralString = """
    INSERT INTO aggregation_dirtymark (project_id, kind, level, bucket, erasing, marked_at)
    SELECT DISTINCT project_id, %s, 0, date_trunc('hour', occurred_at, 'UTC'), true, %s::timestamptz
    FROM {} WHERE project_id = %s AND subject = %s
"""
