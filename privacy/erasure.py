"""Erasing a person whose request is due: restriction, barrier, chunks, verification, receipt.

One worker at a time runs a request, under a lock of its database session that dies with it. A kill
at any moment leaves the request running: the next sweep takes it up where the rows are.
"""

import logging
import time
from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

import redis
from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.utils import timezone

from ingest.erasing import Person, Unreadable
from privacy import audit, restrictions
from privacy.models import DeletionRequest
from privacy.register import NOT_REACHED, STORES
from telemetry_site import logs
from telemetry_site.alone import alone_at
from telemetry_site.errors import DATABASE_ERRORS

logger = logging.getLogger(__name__)

State = DeletionRequest.State
ACTOR = "system"
RETRY = timedelta(hours=1)
# Everything is erased so often before what the verification finds is a failure.
PASSES = 3
# Advisory locks of this kind, one a request.
_ERASING = 0x65726173  # "eras"
# What is over once a server is back.
PASSING = (*DATABASE_ERRORS, redis.RedisError)


class Remains(Exception):
    """What the verification found after everything was erased: rows by table."""

    def __init__(self, found: dict[str, int]) -> None:
        super().__init__(found)
        self.found = found


def run_due(seconds: float) -> bool:
    """Run what is due until the time is over; whether some is left.

    Raises what is nobody's fault, with nothing lost: to be tried again.
    """
    deadline = time.monotonic() + seconds
    for request_id in list(DeletionRequest.objects.due().order_by("due_at").values_list("pk")):
        if time.monotonic() > deadline:
            return True
        with alone_at(_ERASING, *request_id) as alone:
            if alone and not run(*request_id, deadline):
                return True
    return False


def run(request_id: UUID, deadline: float) -> bool:
    """Run one request; False where the time is over before it is."""
    request = _begin(request_id)
    if request is None:
        return True
    with logs.about(erasure=str(request_id)):
        try:
            # Who stored when the restriction was committed is through now; who comes, sees it.
            restrictions.await_storing(request.project_id)
            return _erase(request, deadline)
        except PASSING:
            raise
        except Unreadable as error:
            _fail(
                request,
                f"{error.batches} payloads of the project's dead batches can't be read, nor "
                "searched. Discard them: Dead set in the admin.",
            )
        except SoftTimeLimitExceeded:
            _fail(
                request,
                "Looking through what waits and what is dead in the project took too long. Replay "
                "or discard the dead batches: Dead set in the admin.",
            )
        except Remains as error:
            rows = ", ".join(f"{count} in {table}" for table, count in error.found.items())
            _fail(request, f"The verification found rows that should be gone: {rows}.")
        except Exception as error:
            logger.exception("an erasure failed in a way nobody foresaw")
            _fail(request, f"It stopped with {logs.kind(error)}; the log has more.")
    return True


def _begin(request_id: UUID) -> DeletionRequest | None:
    """Mark a request running, unless it was cancelled just now: from here on it can't be.

    Whoever opted in again since asking is restricted again: the request was not cancelled.
    """
    asked = DeletionRequest.objects.due().filter(pk=request_id).first()
    if asked is None:
        return None
    person = _person(asked)
    with transaction.atomic():
        # In the order in which asking and cancelling lock, too.
        restrictions.hold(person.project_id, person.subject)
        request = DeletionRequest.objects.due().select_for_update().filter(pk=request_id).first()
        if request is None:
            return None
        restrictions.suppress(person.project_id, person.subject)
        if request.state != State.RUNNING:
            request.attempts += 1
            request.state = State.RUNNING
            request.started_at = timezone.now()
            request.save(update_fields=["attempts", "state", "started_at"])
            audit.record(
                "deletion.started", ACTOR, project_id=request.project_id, of=str(request.pk)
            )
    return request


def _erase(request: DeletionRequest, deadline: float) -> bool:
    """Erase chunk by chunk, verify, and settle the request; False where the time is over before."""
    person = _person(request)
    erased = Counter(request.receipt["erased"] if request.receipt else {})

    def note(table: str, rows: int) -> None:
        erased[table] += rows
        request.receipt = {"erased": +erased}
        request.save(update_fields=["receipt"])

    for left in reversed(range(PASSES)):
        for erase in dict.fromkeys(store.erase for store in STORES if store.erase):
            for _ in erase(person, note):
                if time.monotonic() > deadline:
                    return False
        try:
            _complete(request, person)
        except Remains:
            # The person asked for something meanwhile.
            if not left:
                raise
        else:
            break
    return True


def _complete(request: DeletionRequest, person: Person) -> None:
    with transaction.atomic():
        restrictions.bury(person.project_id, person.subject)
    assert request.started_at is not None
    checked = verify(person, request.started_at)
    with transaction.atomic():
        restrictions.hold(person.project_id, person.subject)
        request.receipt = {
            "erased": (request.receipt or {}).get("erased", {}),
            "verified": {"found": 0, "tables": checked},
            "not_reached": list(NOT_REACHED),
        }
        request.state = State.COMPLETED
        request.finished_at = timezone.now()
        request.subject, request.error, request.retry_at = None, "", None
        request.save()
        rows = sum(request.receipt["erased"].values())
        audit.record(
            "deletion.completed",
            ACTOR,
            project_id=request.project_id,
            of=str(request.pk),
            rows=rows,
        )
    logger.info("a person is erased: %d rows", rows)


def verify(person: Person, since: datetime) -> list[str]:
    """Look for a person in every registered store; the tables looked into.

    Of what arrived after `since` storing leaves the person out. Raises Remains.
    """
    searched = {store.table: store.count(person, since) for store in STORES if store.count}
    if found := {table: count for table, count in searched.items() if count}:
        raise Remains(found)
    return list(searched)


def _fail(request: DeletionRequest, sentence: str) -> None:
    """Say why, and let it be tried again."""
    with transaction.atomic():
        request.state = State.FAILED
        request.error = sentence[:200]
        request.retry_at = timezone.now() + RETRY
        request.save(update_fields=["state", "error", "retry_at"])
        audit.record("deletion.failed", ACTOR, project_id=request.project_id, of=str(request.pk))
    logger.error("an erasure failed, and is tried again: %s", sentence)


def _person(request: DeletionRequest) -> Person:
    assert request.subject is not None, "an open request knows its person"
    return Person(request.project_id, bytes(request.subject))
