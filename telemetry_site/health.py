"""`/healthz`: the process is up. `/readyz`: each thing the service leans on, by name.

Only what keeps the service from accepting makes it not ready (503): the database and a full disk. A
load balancer must not take out a server that still accepts because something behind it waits.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.db import connection
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.views import APIView

from ingest.models import Batch
from ingest.tasks import WORKER_LEASE
from telemetry_site.beat import LEASE as BEAT_LEASE
from telemetry_site.errors import DATABASE_ERRORS, RETRY_SECONDS
from telemetry_site.models import Lease
from telemetry_site.redis_client import REDIS_ERRORS, redis_client
from telemetry_site.responses import json_response
from telemetry_site.schema import HEALTH, READY


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: fine or not, and a sentence."""

    ok: bool
    detail: str


def _database() -> Finding:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return Finding(True, "answers")


def _disk() -> Finding:
    free = shutil.disk_usage(settings.DATA_DIR).free
    return Finding(free >= settings.MIN_FREE_DISK_BYTES, f"{free // 1024**2} MB free")


def _broker() -> Finding:
    client = redis_client()
    try:
        client.ping()
    except REDIS_ERRORS as error:
        return Finding(False, f"does not answer ({type(error).__name__}); storing pauses")
    finally:
        client.close()
    return Finding(True, "answers")


def _lease(name: str, alive: str) -> Finding:
    lease = Lease.objects.filter(name=name).first()
    if lease is None:
        return Finding(False, "has not run yet")
    if lease.until < timezone.now():
        return Finding(False, f"not seen since {lease.until:%Y-%m-%dT%H:%M:%SZ}")
    return Finding(True, alive)


def _worker() -> Finding:
    return _lease(WORKER_LEASE, "stores batches")


def _beat() -> Finding:
    return _lease(BEAT_LEASE, "runs the schedules")


def _backlog() -> Finding:
    oldest = Batch.objects.filter(state=Batch.State.RECEIVED).order_by("day", "id")
    received_at = oldest.values_list("received_at", flat=True).first()
    if received_at is None:
        return Finding(True, "nothing waits")
    age = (timezone.now() - received_at).total_seconds()
    return Finding(age < settings.BACKLOG_ALARM_SECONDS, f"the oldest batch waits {age:.0f} s")


# Name -> check, and whether accepting depends on it.
CHECKS: dict[str, tuple[Callable[[], Finding], bool]] = {
    "database": (_database, True),
    "disk": (_disk, True),
    "broker": (_broker, False),
    "worker": (_worker, False),
    "beat": (_beat, False),
    "backlog": (_backlog, False),
}


def examine() -> dict[str, Finding]:
    """What each check finds now, by name."""
    return {name: _look(check) for name, (check, _) in CHECKS.items()}


def _look(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except DATABASE_ERRORS as error:
        return Finding(False, f"the database does not answer ({type(error).__name__})")


class HealthView(APIView):
    """`GET /healthz`: 200 while the process is up."""

    authentication_classes = []
    operation = HEALTH

    def get(self, request: Request) -> HttpResponse:
        return json_response({"status": "ok"})


class ReadyView(APIView):
    """`GET /readyz`: every check by name; 503 where the service can't accept."""

    authentication_classes = []
    operation = READY

    def get(self, request: Request) -> HttpResponse:
        findings = examine()
        ready = all(findings[name].ok for name, (_, needed) in CHECKS.items() if needed)
        body = {"status": "ready" if ready else "not ready", "checks": findings}
        if ready:
            return json_response(body)
        return json_response(body, 503, {"Retry-After": str(RETRY_SECONDS)})
