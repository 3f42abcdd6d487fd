"""The audit log's entries."""

from django.db import models


class AuditEntry(models.Model):
    """Something done with persons' data, or looked at. Written by `privacy.audit` alone, for good.

    Holds no personal data: persons' requests are named by their random ids. `digest` covers the
    entry and the digest before it, keyed, so that no entry can be changed or left out unnoticed.
    """

    number = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()
    action = models.CharField(max_length=40)
    actor = models.CharField(max_length=200, help_text="operator, key, subject or system")
    project_id = models.IntegerField(null=True)
    object = models.CharField(max_length=100, blank=True, help_text="A random id, never a person's")
    details = models.JSONField(default=dict)
    digest = models.BinaryField(max_length=32)

    class Meta:
        default_permissions = ("view",)
        verbose_name_plural = "audit entries"
        constraints = [
            # The chain begins at 1: nothing stands before it.
            models.CheckConstraint(condition=models.Q(number__gt=0), name="audit_begins_at_one"),
        ]
        indexes = [
            # Readers: the admin's filters.
            models.Index(fields=["project_id", "-number"], name="audit_of_a_project"),
            models.Index(fields=["action", "-number"], name="audit_of_an_action"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.action}"
