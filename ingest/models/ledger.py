"""The ledger: each batch that arrived, what became of it, and what its dropped days added up to."""

from typing import Any
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import models

from ingest.models.keys import KeyedQuerySet
from ingest.models.projects import Project

# What becomes of the events of a batch. Those received add up to the others.
OUTCOMES = ("received", "stored", "duplicate", "rejected", "suppressed", "dead", "waiting")


class BatchQuerySet(KeyedQuerySet["Batch"]):
    def claimed_by(self, project_id: int, batch_id: UUID) -> "Batch | None":
        """The ledger row of the batch that claimed this id, if it is still kept."""
        claim = BatchClaim.objects.filter(
            project_id=project_id, key=batch_id, batch_id=batch_id
        ).first()
        if claim is None:
            return None
        return self.filter(day=claim.ledger_day, pk=claim.ledger_id).first()

    def dead(self) -> "BatchQuerySet":
        return self.filter(state=Batch.State.DEAD)


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
        DISCARDED = "discarded", "failed after all tries, given up by an operator"

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
        default_permissions = ("view",)
        verbose_name_plural = "batches"

    def __str__(self) -> str:
        return self.key

    @property
    def key(self) -> str:
        """What names the batch in the admin's addresses."""
        return f"{self.day}-{self.pk}"

    @property
    def waiting(self) -> int:
        """Events on their way to storage."""
        settled = self.stored + self.duplicate + self.rejected + self.suppressed + self.dead
        return self.received - settled

    @property
    def report(self) -> dict[str, Any]:
        """What the project's server may know of it."""
        report = {
            name: getattr(self, name)
            for name in ("batch_id", "state", "format", "received_at", "stored_at", *OUTCOMES)
        }
        if self.duplicate_of is not None:
            report["duplicate_of"] = self.duplicate_of
        return report

    @property
    def report_to_client(self) -> dict[str, Any]:
        """The same for a client: what arrived waits, or is stored, whatever became of it here.

        Whoever has a publishable key may send in anybody's name, and would learn what persons don't
        let be stored: also from which of their events are dead, since those never are.
        """
        report = self.report
        unseen = report["suppressed"] + report["dead"]
        end = "waiting" if self.state == Batch.State.RECEIVED else "stored"
        hidden = self.state in (Batch.State.DEAD, Batch.State.DISCARDED)
        return report | {
            "state": Batch.State.STORED if hidden else self.state,
            end: report[end] + unseen,
            "suppressed": 0,
            "dead": 0,
        }


class DeadBatch(Batch):
    """A batch that failed after all tries, as the admin's page of them sees it."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        permissions = [
            ("view_payload", "Can look at the scrubbed events of a dead batch"),
            ("replay_deadbatch", "Can replay dead batches"),
            ("discard_deadbatch", "Can discard dead batches"),
        ]
        verbose_name_plural = "dead batches"


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
        default_permissions = ("view",)


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


class RateLimitViolation(models.Model):
    """How often one caller was refused by one rule in one minute.

    `key` is a keyed hash of what the rule counts by; `network` a coarse prefix of the caller's
    address, never the address.
    """

    minute = models.DateTimeField()
    project = models.ForeignKey(
        Project, null=True, on_delete=models.DO_NOTHING, db_constraint=False,
        help_text="Empty where nobody was authenticated.",
    )  # fmt: skip
    rule = models.CharField(max_length=40)
    key = models.CharField(max_length=32)
    network = models.CharField(max_length=50, blank=True)
    count = models.BigIntegerField()

    class Meta:
        constraints = [
            # Readers: the flush, and the admin by time.
            models.UniqueConstraint(
                fields=["minute", "rule", "project", "key", "network"],
                name="violation_once_a_minute",
                nulls_distinct=False,
            ),
        ]
        indexes = [
            # Reader: the erasure of a person.
            models.Index(fields=["key"], name="violation_of_a_caller"),
        ]


class ViolationSum(models.Model):
    """How often callers of a project were refused by one rule in one hour: what charts read."""

    hour = models.DateTimeField()
    project = models.ForeignKey(
        Project, null=True, on_delete=models.DO_NOTHING, db_constraint=False
    )
    rule = models.CharField(max_length=40)
    count = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            # Readers: the flush, and the admin by time.
            models.UniqueConstraint(
                fields=["hour", "rule", "project"], name="violationsum_bucket", nulls_distinct=False
            ),
        ]
