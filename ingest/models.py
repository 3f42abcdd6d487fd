"""Tables of the data path.

What grows is partitioned by day (see `partitions`); those tables are made in SQL by the migrations
and declare to the ORM a key that Django's admin can work with, beside the composite one in SQL.
Foreign keys of the data path carry no constraint: checking one locks the project's row each time.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.utils import timezone
from django.utils.text import slugify

# What becomes of the events of a batch. Those received add up to the others.
OUTCOMES = ("received", "stored", "duplicate", "rejected", "suppressed", "dead", "waiting")


class ProjectQuerySet(models.QuerySet["Project"]):
    def create_with_keys(self, name: str) -> tuple["Project", dict[str, str]]:
        """A new project with one key of each scope; the keys' texts by scope, to be shown once."""
        with transaction.atomic():
            project = self.create(name=name, slug=slugify(name)[:50])
            keys = {scope.value: ApiKey.objects.issue(project, scope)[1] for scope in ApiKey.Scope}
        return project, keys


class Project(models.Model):
    """One product whose clients send here, and its rules."""

    id = models.AutoField(primary_key=True)
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    users_optional = models.BooleanField(
        default=False, help_text="Take events that name no user (they count for nobody)."
    )
    signing_version = models.PositiveIntegerField(
        default=1, help_text="Raised to make a new signing secret."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProjectQuerySet.as_manager()

    def __str__(self) -> str:
        return self.slug

    @property
    def signing_secret(self) -> str:
        """What the project's own servers sign their tokens with.

        Derived, not stored: a database dump holds nothing to sign with.
        """
        message = f"signing:{self.pk}:{self.signing_version}".encode()
        return hmac.new(settings.PEPPER, message, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """What a checked key lets its holder do. A copy that processes may keep for a few seconds."""

    key_id: int
    scope: str
    project_id: int
    project_slug: str
    users_optional: bool


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def issue(
        self, project: Project, scope: str, *, label: str = "", expires_at: datetime | None = None
    ) -> tuple["ApiKey", str]:
        """A new key and its text, which is kept nowhere: whoever asked must show it now."""
        prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = self.create(
            project=project,
            scope=scope,
            prefix=prefix,
            digest=ApiKey.digest_of(secret),
            label=label,
            expires_at=expires_at,
        )
        return key, f"{scope}_{prefix}_{secret}"

    def usable(self, prefix: str) -> "ApiKey | None":
        """The key with this prefix if it may be used now, its project with it."""
        key = self.select_related("project").filter(prefix=prefix).first()
        return key if key is not None and key.is_usable else None


class ApiKey(models.Model):
    """A key of a project: `<scope>_<prefix>_<secret>`. Of the secret only a hash is kept."""

    class Scope(models.TextChoices):
        INGEST = "ingest", "ingest: publishable, may only write"
        SECRET = "secret", "secret: server side, queries and privacy"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="keys")
    scope = models.CharField(max_length=10, choices=Scope)
    prefix = models.CharField(
        max_length=12, unique=True, validators=[RegexValidator(r"\A[0-9a-f]{12}\Z")]
    )
    digest = models.BinaryField(max_length=32)
    label = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the hour.")

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.scope}_{self.prefix}_…"

    @staticmethod
    def digest_of(secret: str) -> bytes:
        """The secret has 256 random bits: one keyed hash is as good as a slow one."""
        return hmac.digest(settings.PEPPER, b"api-key:" + secret.encode(), "sha256")

    def matches(self, secret: str) -> bool:
        return hmac.compare_digest(bytes(self.digest), self.digest_of(secret))

    @property
    def is_usable(self) -> bool:
        now = timezone.now()
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    @property
    def state(self) -> str:
        """In words: usable, expired, revoked, and since or until when."""
        if self.revoked_at is not None:
            return f"revoked {self.revoked_at:%Y-%m-%d %H:%M} UTC"
        if self.expires_at is None:
            return "usable"
        word = "usable until" if self.is_usable else "expired"
        return f"{word} {self.expires_at:%Y-%m-%d %H:%M} UTC"

    @property
    def grant(self) -> KeyGrant:
        return KeyGrant(
            key_id=self.pk,
            scope=self.scope,
            project_id=self.project.pk,
            project_slug=self.project.slug,
            users_optional=self.project.users_optional,
        )

    def rotate(self, overlap: timedelta) -> tuple["ApiKey", str]:
        """A successor and its text; this key works for `overlap` longer, never past its own end."""
        with transaction.atomic():
            successor = ApiKey.objects.issue(self.project, self.scope, label=self.label)
            end = timezone.now() + overlap
            self.expires_at = min(self.expires_at or end, end)
            self.save(update_fields=["expires_at"])
        return successor

    def revoke(self) -> None:
        """End the key now. Processes that know it drop it within `TELEMETRY_KEY_CACHE_SECONDS`."""
        self.revoked_at = self.revoked_at or timezone.now()
        self.save(update_fields=["revoked_at"])

    def note_use(self) -> None:
        """Keep the hour of the last use; one write an hour, however many requests."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at > timedelta(hours=1):
            ApiKey.objects.filter(pk=self.pk).update(last_used_at=now)


class BatchQuerySet(models.QuerySet["Batch"]):
    def claimed_by(self, project_id: int, batch_id: UUID) -> "Batch | None":
        """The ledger row of the batch that claimed this id, if it is still kept."""
        claim = BatchClaim.objects.filter(
            project_id=project_id, key=batch_id, batch_id=batch_id
        ).first()
        if claim is None:
            return None
        return self.filter(day=claim.ledger_day, pk=claim.ledger_id).first()


class Batch(models.Model):
    """The ledger: each batch that passed authentication, whatever became of it.

    Written by `intake` when it arrives and by `storage` when it is stored. `received` events are
    decoded ones; while the batch waits they are on their way, afterwards
    received = stored + duplicate + rejected + suppressed + dead.
    """

    class State(models.TextChoices):
        RECEIVED = "received", "accepted, waits to be stored"
        STORED = "stored", "stored"
        REJECTED = "rejected", "refused as a whole"
        DUPLICATE = "duplicate", "seen before"
        DEAD = "dead", "failed after all tries, kept for replay"

    id = models.BigAutoField(primary_key=True)
    day = models.DateField()
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    batch_id = models.UUIDField(null=True)
    format = models.CharField(max_length=20)
    state = models.CharField(max_length=10, choices=State)
    received_at = models.DateTimeField()
    stored_at = models.DateTimeField(null=True)
    received = models.IntegerField()
    stored = models.IntegerField(default=0)
    duplicate = models.IntegerField(default=0)
    rejected = models.IntegerField(default=0)
    suppressed = models.IntegerField(default=0)
    dead = models.IntegerField(default=0)
    wire_bytes = models.IntegerField()
    body_bytes = models.IntegerField()
    attempts = models.SmallIntegerField(default=0)
    error = models.TextField(blank=True)
    request_id = models.CharField(max_length=64)
    duplicate_of = models.UUIDField(null=True)
    payload = models.BinaryField(null=True)

    objects = BatchQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "ingest_batch"
        verbose_name_plural = "batches"

    @property
    def waiting(self) -> int:
        """Events on their way to storage."""
        settled = self.stored + self.duplicate + self.rejected + self.suppressed + self.dead
        return self.received - settled

    @property
    def report(self) -> dict[str, Any]:
        """What its client may know of it."""
        report = {
            name: getattr(self, name)
            for name in ("batch_id", "state", "format", "received_at", "stored_at", *OUTCOMES)
        }
        if self.duplicate_of is not None:
            report["duplicate_of"] = self.duplicate_of
        return report


class BatchClaim(models.Model):
    """What makes a replay a duplicate: a project's batch id, or a digest of a batch's events.

    Hash-partitioned by project and key. `ledger_day` and `ledger_id` lead to the batch that claims.
    """

    pk = models.CompositePrimaryKey("project_id", "key")
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    key = models.UUIDField()
    batch_id = models.UUIDField()
    ledger_day = models.DateField()
    ledger_id = models.BigIntegerField()
    expires_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "ingest_batchclaim"


class Attempt(models.Model):
    """The batches a worker is about to store. A row left behind: the worker died there."""

    batches = ArrayField(models.BigIntegerField())
    started_at = models.DateTimeField(auto_now_add=True)


class Event(models.Model):
    """One stored event. `occurred_at` is the client's time, corrected; ids are keyed hashes."""

    pk = models.CompositePrimaryKey("project_id", "occurred_at", "batch_id", "position")
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    occurred_at = models.DateTimeField()
    batch_id = models.UUIDField()
    position = models.SmallIntegerField()
    subject = models.BinaryField(null=True)
    session = models.BinaryField(null=True)
    name = models.TextField()
    category = models.TextField()
    level = models.TextField(null=True)
    scope = models.TextField(null=True)
    client_version = models.TextField(null=True)
    message = models.TextField(null=True)
    properties = models.JSONField()

    class Meta:
        managed = False
        db_table = "ingest_event"


class RejectedEvent(models.Model):
    """Why an event was refused, and its shape: names and types of its fields, never values."""

    id = models.BigAutoField(primary_key=True)
    day = models.DateField()
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    batch = models.BigIntegerField(help_text="The ledger's id of the batch.")
    format = models.CharField(max_length=20)
    received_at = models.DateTimeField()
    position = models.IntegerField(null=True)
    code = models.CharField(max_length=40)
    field = models.CharField(max_length=200, null=True)
    message = models.TextField()
    shape = models.JSONField()

    class Meta:
        managed = False
        db_table = "ingest_rejectedevent"


class LedgerSum(models.Model):
    """What the ledger's dropped days added up to: accounting that outlives the rows."""

    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    hour = models.DateTimeField()
    format = models.CharField(max_length=20)
    batches = models.BigIntegerField()
    received = models.BigIntegerField()
    stored = models.BigIntegerField()
    duplicate = models.BigIntegerField()
    rejected = models.BigIntegerField()
    suppressed = models.BigIntegerField()
    dead = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "hour", "format"], name="ledgersum_bucket"),
        ]
