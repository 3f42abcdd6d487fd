"""Violations of the rate limits: from their counters in Redis to rows that operators can read.

Counted there, so that a flood costs no write to the database a request. What is flushed is a whole
minute's count so far: done again after a crash it says the same.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from ingest.counters import MINUTES, violations_key
from ingest.erasing import CHUNK, Note, Person
from ingest.models import Block, RateLimitViolation, ViolationSum
from ingest.ratelimits import hashed_caller, user_of
from ingest.rules import RULES
from telemetry_site.redis_client import redis_client

_FIELDS = ["minute", "project", "rule", "key", "network"]
# An hour anew, from its minutes: at most as many rows as callers are told apart in them.
_SUM = """
    INSERT INTO ingest_violationsum (hour, project_id, rule, count)
    SELECT %(hour)s, project_id, rule, sum(count) FROM ingest_ratelimitviolation
    WHERE minute >= %(hour)s AND minute < %(hour)s + interval '1 hour'
    GROUP BY project_id, rule
    ON CONFLICT (hour, rule, project_id) DO UPDATE SET count = excluded.count
"""


def flush() -> None:
    """Write down what was counted, and forget what is past its retention. Raises REDIS_ERRORS."""
    client = redis_client()
    # A request that has begun may still count in the minute before this one.
    settled = int(time.time()) // 60 - 1
    try:
        minutes = sorted(map(int, client.smembers(MINUTES)))
        for minute in minutes:
            _write(_rows(minute, client.hgetall(violations_key(minute))))
        for hour in {minute // 60 for minute in minutes}:
            _sum(hour)
        if over := [minute for minute in minutes if minute < settled]:
            client.srem(MINUTES, *over)
    finally:
        client.close()
    oldest = timezone.now() - timedelta(days=settings.VIOLATION_RETENTION_DAYS)
    RateLimitViolation.objects.filter(minute__lt=oldest).delete()
    ViolationSum.objects.filter(hour__lt=oldest).delete()
    Block.objects.forget_ended()


def erase(person: Person, note: Note) -> Iterator[None]:
    """Forget whom a rule that counts by user refused: this person. Raises REDIS_ERRORS.

    First where it is counted, so that nothing is flushed any more.
    """
    keys = _keys_of(person)
    client = redis_client()
    try:
        for counted in client.scan_iter(f"{MINUTES}:*", count=1000):
            for key in keys:
                of_the_key = client.hscan_iter(counted, f"{person.project_id}|*|{key}|*")
                if fields := [field for field, _ in of_the_key]:
                    client.hdel(counted, *fields)
    finally:
        client.close()
    # Index: violation_of_a_caller.
    found = RateLimitViolation.objects.filter(key__in=keys, project=person.project_id)
    while rows := list(found.values_list("pk", flat=True)[:CHUNK]):
        with transaction.atomic():
            RateLimitViolation.objects.filter(pk__in=rows).delete()
            note(RateLimitViolation._meta.db_table, len(rows))
        yield


def count_of(person: Person, since: datetime) -> int:
    """On how many minutes up to `since` it is on record that this person was refused."""
    return RateLimitViolation.objects.filter(
        key__in=_keys_of(person), project=person.project_id, minute__lte=since
    ).count()


def _keys_of(person: Person) -> list[str]:
    """What stands for a person, by the rules that count by user."""
    by_user = [rule.name for rule in RULES.values() if rule.by in ("user", "user_or_caller")]
    return [hashed_caller(rule, person.project_id, user_of(person.subject)) for rule in by_user]


def _rows(minute: int, counts: Mapping[Any, Any]) -> list[RateLimitViolation]:
    moment = datetime.fromtimestamp(minute * 60, UTC)
    rows = []
    for field, count in counts.items():
        project, rule, key, network = field.decode().split("|")
        rows.append(
            RateLimitViolation(
                minute=moment,
                project_id=int(project) if project else None,
                rule=rule,
                key=key,
                network=network,
                count=int(count),
            )
        )
    return rows


def _write(rows: list[RateLimitViolation]) -> None:
    RateLimitViolation.objects.bulk_create(
        rows, 500, update_conflicts=True, update_fields=["count"], unique_fields=_FIELDS
    )


def _sum(hour: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_SUM, {"hour": datetime.fromtimestamp(hour * 3600, UTC)})
