"""The service's events table, unpartitioned."""

from django.db import models


class ApiKey(models.Model):
    """A key; of its text only a hash is kept."""

    project_id = models.IntegerField()
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        app_label = "naive"


class Event(models.Model):
    """One event."""

    pk = models.CompositePrimaryKey("project_id", "occurred_at", "batch_id", "position")
    project_id = models.IntegerField()
    occurred_at = models.DateTimeField()
    batch_id = models.UUIDField()
    position = models.SmallIntegerField()
    # 16 bytes as in the service, as the type that lets Django's bulk_create use UNNEST.
    subject = models.UUIDField(null=True)
    session = models.UUIDField(null=True)
    name = models.TextField()
    category = models.TextField()
    level = models.TextField(null=True)
    scope = models.TextField(null=True)
    client_version = models.TextField(null=True)
    message = models.TextField(null=True)
    properties = models.JSONField()

    class Meta:
        app_label = "naive"
        indexes = [models.Index(fields=["project_id", "subject"], name="naive_event_subject")]
