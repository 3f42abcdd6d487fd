"""What persons asked for: their data, or its erasure."""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from ingest.models import Project

# What a person is promised, from the receipt of the request on.
PROMISE = timedelta(days=30)
TOKEN_LIFE = timedelta(days=30)


class ExportRequest(models.Model):
    """One person's data, gathered into a file that waits to be fetched."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting for a worker"
        RUNNING = "running", "being gathered"
        DONE = "done", "ready to be fetched"
        FAILED = "failed", "failed after all tries"
        EXPIRED = "expired", "its file is deleted"

    OPEN = (State.WAITING, State.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    subject = models.BinaryField(
        max_length=16, null=True, help_text="Forgotten with the file and with an erasure."
    )
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    requested_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    file = models.CharField(max_length=100, blank=True, help_text="Its name in the storage.")
    bytes = models.BigIntegerField(default=0)
    events = models.BigIntegerField(default=0)
    points = models.BigIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        default_permissions = ("view",)
        indexes = [
            # Readers: a person's export and erasure.
            models.Index(fields=["project", "subject"], name="exports_of_a_person"),
            # Reader: the sweep.
            models.Index(
                fields=["requested_at"],
                condition=models.Q(state__in=["waiting", "running"]),
                name="exports_to_be_made",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def report(self) -> dict[str, Any]:
        """What whoever may ask about it is told."""
        return {
            "export_id": self.pk,
            "status": self.state,
            "requested_at": self.requested_at,
            "finished_at": self.finished_at,
            "expires_at": self.expires_at,
            "events": self.events,
            "metrics": self.points,
            "bytes": self.bytes,
            "error": self.error if self.state == self.State.FAILED else "",
        }


class DeletionRequestQuerySet(models.QuerySet["DeletionRequest"]):
    def open(self) -> "DeletionRequestQuerySet":
        """Those whose person isn't erased and didn't change their mind."""
        return self.filter(state__in=DeletionRequest.OPEN)

    def due(self, when: datetime | None = None) -> "DeletionRequestQuerySet":
        """Those that a worker should take now, or should have at another time.

        Index: deletions_due.
        """
        when = when or timezone.now()
        return self.open().filter(Q(retry_at=None) | Q(retry_at__lte=when), due_at__lte=when)

    def overdue(self) -> "DeletionRequestQuerySet":
        """Those that broke the promise."""
        return self.open().filter(requested_at__lt=timezone.now() - PROMISE)

    def failed(self) -> "DeletionRequestQuerySet":
        """Those that could not be run, and are tried again. Index: deletions_due."""
        return self.open().filter(state=DeletionRequest.State.FAILED)

    def with_token(self, token: str) -> "DeletionRequest | None":
        """The request that a token was given out for, while the token lives."""
        digest = DeletionToken.digest_of(token)
        found = DeletionToken.objects.select_related("request").filter(pk=digest).first()
        return None if found is None or found.request.token_ended else found.request


class DeletionRequest(models.Model):
    """One person's wish to be erased: from the request on nothing new of theirs is stored, when
    its grace is over what is stored is erased."""

    class State(models.TextChoices):
        PENDING = "pending", "waiting for the end of its grace"
        RUNNING = "running", "being erased"
        COMPLETED = "completed", "erased and verified"
        CANCELLED = "cancelled", "cancelled before it began"
        FAILED = "failed", "failed, tried again every hour"

    OPEN = (State.PENDING, State.RUNNING, State.FAILED)

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    subject = models.BinaryField(
        max_length=16, null=True, help_text="Forgotten when the person is erased."
    )
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    requested_at = models.DateTimeField(default=timezone.now)
    request_timestamp = models.DateTimeField(null=True, help_text="What the client's clock said.")
    due_at = models.DateTimeField(help_text="When its grace is over and erasure begins.")
    was_suppressed = models.BooleanField(
        default=False, help_text="By an earlier erasure: cancelling this one changes nothing."
    )
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=200, blank=True)
    retry_at = models.DateTimeField(null=True, help_text="When it is tried again.")
    receipt = models.JSONField(
        null=True, help_text="Rows erased by table so far; when it is complete, what was found."
    )

    objects = DeletionRequestQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        permissions = [("run_deletion", "Can run a deletion before its grace is over")]
        constraints = [
            # Asking again while one is open starts no second one.
            models.UniqueConstraint(
                fields=["project", "subject"],
                condition=models.Q(state__in=["pending", "running", "failed"]),
                name="deletion_one_at_a_time",
            ),
        ]
        indexes = [
            # Readers: the task that runs what is due, and the alarm about what is overdue.
            models.Index(
                fields=["due_at"],
                condition=models.Q(state__in=["pending", "running", "failed"]),
                name="deletions_due",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def deadline(self) -> datetime:
        """When it must be complete."""
        return self.requested_at + PROMISE

    @property
    def is_overdue(self) -> bool:
        return self.state in self.OPEN and timezone.now() > self.deadline

    @property
    def token_ended(self) -> bool:
        return self.finished_at is not None and timezone.now() > self.finished_at + TOKEN_LIFE

    @property
    def report(self) -> dict[str, Any]:
        """What the holder of a token may know."""
        return {
            "status": self.state,
            "requested_at": self.requested_at,
            "erasure_from": self.due_at,
            "estimated_completion": self.deadline,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "receipt": self.receipt if self.state == self.State.COMPLETED else None,
        }


class DeletionToken(models.Model):
    """What a person may ask about their request with: 256 random bits, of which a hash is kept."""

    digest = models.BinaryField(max_length=32, primary_key=True)
    request = models.ForeignKey(DeletionRequest, on_delete=models.CASCADE, related_name="tokens")

    class Meta:
        default_permissions = ()

    @classmethod
    def issue(cls, request: DeletionRequest) -> str:
        """A new token for the request, kept nowhere."""
        token = secrets.token_urlsafe(32)
        cls.objects.create(digest=cls.digest_of(token), request=request)
        return token

    @staticmethod
    def digest_of(token: str) -> bytes:
        return hmac.digest(settings.PEPPER, b"deletion:" + token.encode(), hashlib.sha256)
