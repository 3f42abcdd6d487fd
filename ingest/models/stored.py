"""What is stored: events and measurements."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from ingest.models.projects import Project


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
        default_permissions = ("view",)


class MetricPoint(models.Model):
    """One stored measurement. See `ingest.records.Point` for what each kind fills in."""

    pk = models.CompositePrimaryKey("project_id", "occurred_at", "batch_id", "position", "part")
    project = models.ForeignKey(Project, on_delete=models.DO_NOTHING, db_constraint=False)
    occurred_at = models.DateTimeField()
    batch_id = models.UUIDField()
    position = models.SmallIntegerField()
    part = models.SmallIntegerField()
    name = models.TextField()
    kind = models.TextField()
    subject = models.BinaryField(null=True)
    node = models.TextField(null=True)
    tags = models.JSONField()
    cumulative = models.BooleanField()
    value = models.FloatField(null=True)
    samples = ArrayField(models.FloatField(), null=True)
    count = models.BigIntegerField(null=True)
    sum = models.FloatField(null=True)
    min = models.FloatField(null=True)
    max = models.FloatField(null=True)
    weights = ArrayField(models.BigIntegerField(), null=True)
    started_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "ingest_metricpoint"
