"""Erasing somebody on the running service, and looking for what is left."""

import time
from datetime import timedelta
from typing import Any

from django.utils import timezone

from ingest.erasing import Person
from ingest.models import Event, MetricPoint
from privacy import deletions, erasure
from privacy.models import DeletionRequest, PersonRestriction
from tests.harness import Project, Service, wait_for
from tests.ingest.traces import project_id
from tests.privacy.asking import about, ask, pseudonym

ERASING_SECONDS = 30.0


def person(project: Project, user: str) -> Person:
    return Person(project_id(project), pseudonym(project, user))


def erased(service: Service, project: Project, user: str) -> dict[str, Any]:
    """Ask for erasure at once; what the token's holder is told when it is settled."""
    answer = ask(service, "delete", project.secret_key, {"user_id": user, "grace_days": 0})
    assert answer.status == 200, answer
    return settled(service, answer.json["deletion_token"])


def settled(service: Service, token: str) -> dict[str, Any]:
    """What its holder is told once the worker is through with it."""

    def look() -> dict[str, Any] | None:
        told: dict[str, Any] = about(service, "status", token).json
        return told if told["status"] in ("completed", "failed") else None

    found: dict[str, Any] = wait_for(look, ERASING_SECONDS, "the erasure to be settled")
    return found


def request_of(project: Project, user: str) -> DeletionRequest:
    """A request that is due; no worker takes it before it is committed."""
    whom = person(project, user)
    request, _ = deletions.enter(whom.project_id, whom.subject, "test", timedelta())
    return request


def run(request: DeletionRequest, seconds: float = 60) -> DeletionRequest:
    """Run it in this process, for so long."""
    erasure.run(request.pk, time.monotonic() + seconds)
    request.refresh_from_db()
    return request


def events(project: Project, user: str) -> list[str]:
    """The names of the person's stored events."""
    found = Event.objects.filter(project_id=project_id(project), subject=pseudonym(project, user))
    return sorted(found.values_list("name", flat=True))


def points(project: Project, user: str) -> int:
    return MetricPoint.objects.filter(
        project_id=project_id(project), subject=pseudonym(project, user)
    ).count()


def tombstone(project: Project, user: str) -> PersonRestriction | None:
    return PersonRestriction.objects.filter(
        project_id=project_id(project), subject=pseudonym(project, user)
    ).first()


def due_now(request: DeletionRequest) -> None:
    """Let the hour be over after which a failed request is tried again."""
    DeletionRequest.objects.filter(pk=request.pk).update(retry_at=timezone.now())
