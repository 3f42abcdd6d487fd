"""Forwarding: where stored events and points go beside here, and which batches have gone."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver

from ingest.models.keys import KeyedQuerySet
from ingest.models.projects import Project

# So many events or points share a request, unless their collector refuses so many at once.
MOST_ITEMS = 2_000


class Destination(models.Model):
    """A collector as this service has found it: shared by all workers.

    One for each project that has, or had, an endpoint of its own, and one without a project: the
    instance's. Where it is, is asked of the project or of the settings; `endpoint` is the one that
    this was found of, since another one starts afresh.
    """

    project = models.ForeignKey(
        Project, null=True, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False,
        related_name="+", help_text="Empty: the instance's.",
    )  # fmt: skip
    endpoint = models.CharField(max_length=500, blank=True)
    failures = models.IntegerField(
        default=0, help_text="Requests in a row that are to be tried again."
    )
    failing_since = models.DateTimeField(null=True)
    retry_at = models.DateTimeField(null=True, help_text="Until then nothing is sent.")
    request_items = models.IntegerField(
        default=MOST_ITEMS, help_text="Events or points that share a request."
    )
    last_status = models.SmallIntegerField(
        null=True, help_text="Of the last answer; empty where nobody answered."
    )
    last_error = models.CharField(
        max_length=500, blank=True, help_text="What was said when it last took something not."
    )
    last_error_at = models.DateTimeField(null=True)
    last_success_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["project"], name="destination_of_a_project", nulls_distinct=False
            ),
        ]

    def __str__(self) -> str:
        return str(self.project) if self.project is not None else "the instance's"


class DeliveryQuerySet(KeyedQuerySet["Delivery"]):
    def undelivered(self) -> "DeliveryQuerySet":
        """Those that may be replayed. Index: ingest_delivery_dead."""
        return self.filter(state__in=Delivery.UNDELIVERED)


class Delivery(models.Model):
    """What was stored of one batch in one transaction, to be sent to one destination.

    Holds nobody's data: the events or points are read when they are sent, by their primary key,
    from `moments` (what occurred when) and the batch's id. Of a batch that was stored in parts
    `places` tells which rows are meant: position * 65,536 + part.
    """

    class Signal(models.TextChoices):
        LOGS = "logs", "logs"
        METRICS = "metrics", "metrics"

    class State(models.TextChoices):
        WAITING = "waiting", "waits to be sent"
        DELIVERED = "delivered", "the collector has it"
        DEAD = "dead", "the collector refused it"
        EXPIRED = "expired", "the collector was not there in time"

    # Kept to be replayed.
    UNDELIVERED = (State.DEAD, State.EXPIRED)

    id = models.BigAutoField(primary_key=True)
    day = models.DateField()
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    destination = models.ForeignKey(Destination, on_delete=models.DO_NOTHING, db_constraint=False)
    ledger_day = models.DateField()
    ledger_id = models.BigIntegerField()
    batch_id = models.UUIDField()
    signal = models.CharField(max_length=10, choices=Signal)
    state = models.CharField(max_length=10, choices=State)
    received_at = models.DateTimeField(help_text="When the batch arrived.")
    waiting_since = models.DateTimeField(help_text="When it was stored, or replayed last.")
    moments = ArrayField(models.DateTimeField(), null=True)
    places = ArrayField(models.IntegerField(), null=True)
    items = models.IntegerField()
    body_bytes = models.IntegerField()
    attempts = models.SmallIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    status = models.SmallIntegerField(null=True, help_text="Of the last answer (HTTP).")
    error = models.TextField(blank=True, help_text="What the collector said, scrubbed.")
    rejected = models.IntegerField(
        default=0, help_text="Items of its request that the collector took not."
    )

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "ingest_delivery"
        default_permissions = ("view",)
        permissions = [("replay_delivery", "Can replay deliveries")]
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return self.key

    @property
    def key(self) -> str:
        """What names it in the admin's addresses."""
        return f"{self.day}-{self.pk}"


@receiver(post_save, sender=Project)
def _make_destination(instance: Project, **_: Any) -> None:
    """Storing looks for one there is."""
    if instance.otlp_endpoint:
        Destination.objects.get_or_create(project=instance)
