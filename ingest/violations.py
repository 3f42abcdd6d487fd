"""Violations of the rate limits: from their counters in Redis to rows that operators can read.

Counted there, so that a flood costs no write to the database a request. What is flushed is a whole
minute's count so far: done again after a crash it says the same.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from ingest.counters import MINUTES, violations_key
from ingest.models import Block, RateLimitViolation, ViolationSum
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
