"""Nobody's row: what the admin's page about one person hangs on."""

from django.db import models


class Person(models.Model):
    """No table: persons are known by their pseudonyms, in the rows of others."""

    subject = models.BinaryField(max_length=16, primary_key=True)

    class Meta:
        managed = False
        default_permissions = ("view",)
        permissions = [("act_for_person", "Can ask for a person's data, its erasure, and consent")]
