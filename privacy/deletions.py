"""Asking for one's erasure, looking after it, and thinking better of it."""

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from privacy import audit, restrictions
from privacy.models import PROMISE, DeletionRequest, DeletionToken
from telemetry_site.celery import BROKER_ERRORS, app, broker_connection

__all__ = [
    "DEFAULT_GRACE",
    "PROMISE",
    "TooLate",
    "ask",
    "bring_forward",
    "cancel",
    "enter",
    "is_running",
    "nudge",
]

logger = logging.getLogger(__name__)

TASK = "privacy.tasks.run_due_deletions"
# Erasure begins when this is over, so that there is a day left to be complete on day 30.
DEFAULT_GRACE = timedelta(days=29)


class TooLate(Exception):
    """What is erased, or being erased, can't be cancelled; `state` says how far it is."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


def ask(
    project_id: int,
    subject: bytes,
    actor: str,
    grace: timedelta = DEFAULT_GRACE,
    request_timestamp: datetime | None = None,
) -> tuple[DeletionRequest, str]:
    """Write a person's wish down; the request, and a new token for it. What is due runs at once.

    From the commit on nothing of theirs is stored. While a request is open asking again starts no
    second one, but may let it begin earlier.
    """
    request, token = enter(project_id, subject, actor, grace, request_timestamp)
    if request.due_at <= timezone.now():
        nudge()
    return request, token


def enter(
    project_id: int,
    subject: bytes,
    actor: str,
    grace: timedelta,
    request_timestamp: datetime | None = None,
) -> tuple[DeletionRequest, str]:
    """The same, but for the schedule to run."""
    now = timezone.now()
    with transaction.atomic():
        # The lock on the person's row also lets one at a time ask for the same person.
        was_suppressed = restrictions.suppress(project_id, subject)
        request, created = DeletionRequest.objects.open().get_or_create(
            project_id=project_id,
            subject=subject,
            defaults={
                "requested_at": now,
                "due_at": now + grace,
                "request_timestamp": request_timestamp,
                "was_suppressed": was_suppressed,
            },
        )
        if not created and now + grace < request.due_at:
            request.due_at = now + grace
            request.save(update_fields=["due_at"])
        token = DeletionToken.issue(request)
        audit.record(
            "deletion.asked" if created else "deletion.asked_again",
            actor,
            project_id=project_id,
            of=str(request.pk),
            begins=f"{request.due_at:%Y-%m-%d}",
        )
    return request, token


def is_running(project_id: int, subject: bytes) -> bool:
    """Whether a person's erasure is under way, or failed in the middle."""
    begun = (DeletionRequest.State.RUNNING, DeletionRequest.State.FAILED)
    asked = DeletionRequest.objects.filter(project_id=project_id, subject=subject)
    return asked.filter(state__in=begun).exists()


def bring_forward(request: DeletionRequest, actor: str) -> bool:
    """Let a pending request's grace be over now; False where it isn't pending any more."""
    with transaction.atomic():
        moved = DeletionRequest.objects.filter(
            pk=request.pk, state__in=(DeletionRequest.State.PENDING, DeletionRequest.State.FAILED)
        ).update(due_at=timezone.now(), retry_at=None)
        if moved:
            audit.record(
                "deletion.brought_forward", actor, project_id=request.project_id, of=str(request.pk)
            )
    if moved:
        nudge()
    return bool(moved)


def nudge() -> None:
    """Let a worker run what is due; the schedule does should the broker be away."""
    try:
        with broker_connection() as broker:
            app.send_task(TASK, queue="privacy", connection=broker, retry=False)
    except BROKER_ERRORS as error:
        logger.warning("an erasure waits for the schedule: %s", type(error).__name__)


def cancel(request: DeletionRequest, actor: str) -> DeletionRequest:
    """End a request before its erasure begins. Raises TooLate; one that is cancelled stays so."""
    if request.subject is None:
        if request.state == DeletionRequest.State.CANCELLED:
            return request
        raise TooLate(request.state)
    with transaction.atomic():
        restrictions.hold(request.project_id, bytes(request.subject))
        held = DeletionRequest.objects.select_for_update().get(pk=request.pk)
        if held.state == DeletionRequest.State.CANCELLED:
            return held
        if held.state != DeletionRequest.State.PENDING or held.subject is None:
            raise TooLate(held.state)
        if not held.was_suppressed:
            restrictions.unsuppress(held.project_id, bytes(held.subject))
        held.state = DeletionRequest.State.CANCELLED
        held.finished_at = timezone.now()
        held.save(update_fields=["state", "finished_at"])
        audit.record("deletion.cancelled", actor, project_id=held.project_id, of=str(held.pk))
    return held
