"""Who is kept out for a while: everybody with a key, or everybody from a network."""

import ipaddress
from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone

from ingest.counters import counters
from ingest.models.projects import ApiKey
from ingest.validators import validate_network

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# How long it is still shown once it has ended.
KEPT = timedelta(days=30)


class BlockQuerySet(models.QuerySet["Block"]):
    def active(self) -> "BlockQuerySet":
        """Those that hold now."""
        return self.filter(lifted_at=None, until__gt=timezone.now())

    def forget_ended(self) -> None:
        """Delete those that ended too long ago to be shown."""
        self.filter(until__lt=timezone.now() - KEPT).delete()


class Block(models.Model):
    """Until it ends or is lifted, who has the key or comes from the network gets 429."""

    api_key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.CASCADE, related_name="blocks",
        verbose_name="API key",
    )  # fmt: skip
    network = models.CharField(max_length=43, blank=True, validators=[validate_network])
    until = models.DateTimeField()
    reason = models.CharField(max_length=200, help_text="For your colleagues. Name nobody.")
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    made_at = models.DateTimeField(auto_now_add=True)
    lifted_at = models.DateTimeField(null=True)

    objects = BlockQuerySet.as_manager()

    class Meta:
        default_permissions = ("view", "add", "delete")
        constraints = [
            models.CheckConstraint(
                condition=Q(api_key=None) ^ Q(network=""), name="block_of_a_key_or_a_network"
            ),
        ]

    def __str__(self) -> str:
        return self.network or str(self.api_key)

    @property
    def is_active(self) -> bool:
        return self.lifted_at is None and self.until > timezone.now()

    @property
    def state(self) -> str:
        """In words: for how long, or since when no more."""
        if self.lifted_at is not None:
            return f"lifted {self.lifted_at:%Y-%m-%d %H:%M} UTC"
        return f"{'until' if self.is_active else 'ended'} {self.until:%Y-%m-%d %H:%M} UTC"

    def lift(self) -> None:
        """End it now, and whatever else keeps out the same."""
        same = Block.objects.active().filter(api_key=self.api_key_id, network=self.network)
        same.update(lifted_at=timezone.now())
        transaction.on_commit(counters.announce_change)


@receiver(post_save, sender=Block)
def _announce(**_: object) -> None:
    """Let every process look again."""
    transaction.on_commit(counters.announce_change)
