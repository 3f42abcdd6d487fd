"""How long each level is kept, and which buckets can't change any more.

Days of the whole instance are partitions, which `ingest.partitions` drops once nothing in them has
to be rolled up. The rest is here: projects that keep less, days, and the seal on months whose raw
data is gone. Each chunk is a short transaction: whoever is killed leaves the rest to be found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, LiteralString

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from psycopg import sql

from aggregation import sealing
from aggregation.definitions import ALL, RAW, TABLES, Bucket, midnight
from aggregation.models import Build, DirtyMark, EventHour, Kind, Level, Policy, Seal
from ingest import erasing, partitions

HOURS = {Kind.EVENTS: partitions.EVENT_HOURS, Kind.POINTS: partitions.METRIC_HOURS}
# Rows a transaction.
CHUNK = 2_000


def is_sealed(bucket: Bucket) -> bool:
    """Whether what a bucket is made from isn't all there any more: as it is it stays."""
    day = bucket.start.date()
    if bucket.level == Level.HOUR:
        return _is_expired(bucket.project_id, bucket.kind, day) or not partitions.exists(
            RAW[bucket.kind], day
        )
    if day < _first_day_kept() or _seal(bucket).exists():
        return True
    if bucket.level == Level.MONTH:
        return False
    # A project's hours of events go with its events.
    with_its_hours = bucket.kind == Kind.EVENTS and _is_expired(bucket.project_id, bucket.kind, day)
    return with_its_hours or not partitions.exists(HOURS[bucket.kind], day)


@dataclass(frozen=True, slots=True)
class Due:
    """What is past its time, and what keeps it nevertheless."""

    what: str
    kept_by: str = ""


def due() -> Iterator[Due]:
    """What would go now, partitions among it."""
    for name, goes in partitions.past_their_time():
        yield Due(f"partition {name}", "" if goes else "it is still to be stored or rolled up")
    for policy in _shorter():
        for kind in Kind:
            yield from _expiring(policy, kind)
    before = _first_day_kept()
    for kind in Kind:
        table: Any = TABLES[kind, Level.DAY]
        if rows := table.objects.filter(bucket__lt=midnight(before)).count():
            yield Due(f"{rows:,} counts of days before {before} of {kind.label.lower()}")
    for seal in _sealable():
        kept_by = "something of it is still to be rolled up" if _marks(seal).exists() else ""
        yield Due(f"sketches and small groups in {seal}", kept_by)


def apply() -> Iterator[str]:
    """Delete and seal what is to be; yields after each transaction, what it did."""
    for policy in _shorter():
        for kind in Kind:
            yield from expire(policy, kind)
    for kind in Kind:
        yield from _delete_days(kind)
    for seal in _sealable():
        if _put(seal):
            yield f"{seal} sealed"
    for seal in Seal.objects.filter(wiped=False):
        yield from sealing.wipe(seal)


# --- projects that keep less ---


def _is_expired(project_id: int, kind: Kind, day: date) -> bool:
    """Whether a project's raw data of a day is deleted."""
    policy = Policy.objects.filter(pk=project_id).first()
    since = _kept_from(policy, kind) if policy else None
    return since is not None and day < since


def _kept_from(policy: Policy, kind: Kind) -> date | None:
    """From which day on a project's raw data is there, where that is another than everybody's."""
    return policy.events_from if kind == Kind.EVENTS else policy.points_from


def _wanted_from(policy: Policy, kind: Kind) -> date | None:
    """From which day on it is to be kept."""
    days = policy.event_days if kind == Kind.EVENTS else policy.point_days
    return None if days is None else timezone.now().date() - timedelta(days=days)


def _shorter() -> list[Policy]:
    """Policies of projects that keep less, or have kept less."""
    return [
        policy
        for policy in Policy.objects.select_related("project").order_by("pk")
        if any(_wanted_from(policy, kind) or _kept_from(policy, kind) for kind in Kind)
    ]


def expire(policy: Policy, kind: Kind) -> Iterator[str]:
    """Delete what a project doesn't keep of its raw data, as far as it is rolled up; yields after
    each transaction, what it did."""
    table = RAW[kind]
    days = partitions.days_there(table)
    for day in days:
        if not _advance(policy, kind, day):
            break
    since = _kept_from(policy, kind)
    gone = [day for day in days if since and day < since]
    for day in gone:
        for rows in erasing.expire(policy.pk, table, day):
            yield f"{rows} rows of {table.table} of {day}, {policy.project.slug}"
    if since and kind == Kind.EVENTS:
        yield from _delete_hours(policy, since)


def _expiring(policy: Policy, kind: Kind) -> Iterator[Due]:
    """The rows a project has on days that it doesn't keep. One that is kept keeps those behind."""
    wanted = _wanted_from(policy, kind) or _kept_from(policy, kind) or date.min
    kept_by = ""
    for day in partitions.days_there(RAW[kind]):
        if day < wanted and (rows := erasing.count_of_day(policy.pk, RAW[kind], day)):
            if not _is_expired(policy.pk, kind, day) and _is_dirty(policy.pk, kind, day):
                kept_by = f"{day} is still to be rolled up"
            yield Due(f"{rows:,} {kind.label.lower()} of {day}, {policy.project.slug}", kept_by)


def _advance(policy: Policy, kind: Kind, day: date) -> bool:
    """Give a day up, unless it is to be kept or rolled up first; whether the next is to be looked
    at."""
    wanted, since = _wanted_from(policy, kind), _kept_from(policy, kind)
    if since is not None and day < since:
        return True
    if wanted is None or day >= wanted or _is_dirty(policy.pk, kind, day):
        return False
    name = "events_from" if kind == Kind.EVENTS else "points_from"
    setattr(policy, name, day + timedelta(days=1))
    policy.save(update_fields=[name])
    return True


def _is_dirty(project_id: int, kind: Kind, day: date) -> bool:
    """Whether something of a day has to be rolled up into hours or into the day."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT EXISTS (
                SELECT FROM aggregation_dirtymark WHERE project_id = %(project)s AND kind = %(kind)s
                    AND level <= 1 AND bucket >= %(start)s AND bucket < %(end)s
            ) OR EXISTS (SELECT FROM aggregation_dirtyperson WHERE project_id = %(project)s)
            """,
            {
                "project": project_id,
                "kind": kind,
                "start": midnight(day),
                "end": midnight(day + timedelta(days=1)),
            },
        )
        (found,) = cursor.fetchone()
        return bool(found)


def _delete_hours(policy: Policy, before: date) -> Iterator[str]:
    """Delete a project's hours of the days before one, an hour a transaction."""
    # Each has a row of everything; the primary key leads to those.
    hours = EventHour.objects.filter(
        project_id=policy.pk, dimension=ALL, bucket__lt=midnight(before)
    )
    for hour in [*hours.values_list("bucket", flat=True)]:
        rows, _ = EventHour.objects.filter(project_id=policy.pk, bucket=hour).delete()
        yield f"{rows} counts of {hour:%Y-%m-%d %H:%M}, {policy.project.slug}"


# --- days ---


def _first_day_kept() -> date:
    """Of which days there are counts."""
    return timezone.now().date() - timedelta(days=settings.DAY_RETENTION_DAYS)


def _delete_days(kind: Kind) -> Iterator[str]:
    table = TABLES[kind, Level.DAY]._meta.db_table
    rows = CHUNK
    while rows == CHUNK:
        with connection.cursor() as cursor:
            cursor.execute(
                sql.SQL(_DELETE_DAYS).format(sql.Identifier(table)),
                {"kind": kind, "before": midnight(_first_day_kept()), "most": CHUNK},
            )
            rows = cursor.rowcount
        if rows:
            yield f"{rows} counts of days in {table}"


# What its month, or the day itself, still has to be made of stays.
_DELETE_DAYS: LiteralString = """
    DELETE FROM {0} WHERE ctid = ANY(ARRAY(
        SELECT day.ctid FROM {0} AS day WHERE bucket < %(before)s AND NOT EXISTS (
            SELECT FROM aggregation_dirtymark AS mark
            WHERE mark.project_id = day.project_id AND mark.kind = %(kind)s AND mark.level > 0
                AND mark.bucket IN (day.bucket, date_trunc('month', day.bucket, 'UTC'))
        ) LIMIT %(most)s
    ))
"""


# --- months ---


def _seal(bucket: Bucket) -> Any:
    return Seal.objects.filter(
        project_id=bucket.project_id, kind=bucket.kind, month=bucket.start.replace(day=1)
    )


def _sealable() -> Iterator[Seal]:
    """Months whose raw data is gone, and that have no seal yet."""
    for kind in Kind:
        there = partitions.days_there(RAW[kind])
        policies = {policy.pk: policy for policy in Policy.objects.all()}
        # What was made and isn't sealed yet.
        months = Build.objects.filter(kind=kind, level=Level.MONTH).order_by("project", "bucket")
        for project, month in months.values_list("project_id", "bucket"):
            bucket = Bucket(Level.MONTH, month, project, kind)
            policy = policies.get(project)
            since = (policy and _kept_from(policy, kind)) or date.min
            if not any(since <= day and month.date() <= day < bucket.end.date() for day in there):
                yield Seal(project_id=project, kind=kind, month=month)


def _marks(seal: Seal) -> Any:
    """Those of anything in a month."""
    bucket = Bucket(Level.MONTH, seal.month, seal.project_id, Kind(seal.kind))
    return DirtyMark.objects.filter(
        project_id=seal.project_id,
        kind=seal.kind,
        bucket__gte=bucket.start,
        bucket__lt=bucket.end,
    )


def _put(seal: Seal) -> bool:
    """Seal a month, unless something in it has to be rolled up; nothing new comes in, since its
    raw data is gone."""
    bucket = Bucket(Level.MONTH, seal.month, seal.project_id, Kind(seal.kind))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO aggregation_seal (project_id, kind, month, wiped)
            SELECT %(project)s, %(kind)s, %(start)s, false WHERE NOT EXISTS (
                SELECT FROM aggregation_dirtymark WHERE project_id = %(project)s
                    AND kind = %(kind)s AND bucket >= %(start)s AND bucket < %(end)s
            ) ON CONFLICT DO NOTHING
            """,
            {
                "project": seal.project_id,
                "kind": seal.kind,
                "start": bucket.start,
                "end": bucket.end,
            },
        )
        sealed = bool(cursor.rowcount)
        if sealed:
            Build.objects.filter(
                project_id=bucket.project_id,
                kind=bucket.kind,
                bucket__gte=bucket.start,
                bucket__lt=bucket.end,
            ).delete()
    return sealed
