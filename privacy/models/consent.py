"""What persons let be stored, now and before."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from ingest.models import Project
from ingest.records import CATEGORIES
from privacy.consent import Restriction


class PersonRestriction(models.Model):
    """What isn't stored of one person. Nobody without a row is restricted.

    `suppressed` from the request for erasure on: after the erasure the row is the tombstone, with
    a keyed hash and nothing else. It ends when the person opts in again, at `opted_in_at`: what
    came before that, and wasn't stored yet, is still not meant to be.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    subject = models.BinaryField(max_length=16)
    suppressed = models.BooleanField(default=False)
    refused = ArrayField(models.CharField(max_length=20), default=list)
    opted_in_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        constraints = [
            # Reader: storing, for the persons of a group of batches.
            models.UniqueConstraint(fields=["project", "subject"], name="restriction_of_a_person"),
        ]

    @property
    def restriction(self) -> Restriction:
        return Restriction(self.suppressed, frozenset(self.refused))

    @property
    def categories(self) -> dict[str, bool]:
        """The consent in force, by category."""
        return {name: not self.restriction.forbids(name) for name in sorted(CATEGORIES)}


class ConsentChange(models.Model):
    """One answer that a person gave about one category; gone with their other data."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    subject = models.BinaryField(max_length=16)
    category = models.CharField(max_length=20)
    granted = models.BooleanField()
    changed_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        indexes = [
            # Readers: a person's export and erasure, and the admin's page by project.
            models.Index(fields=["project", "subject", "changed_at"], name="consent_of_a_person"),
        ]
