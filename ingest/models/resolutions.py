"""What an operator decided about many dead batches at once, and how far that is."""

from django.conf import settings
from django.db import models
from django.db.models import Q


class Resolution(models.Model):
    """Replaying or discarding all dead batches that match, or replaying deliveries, in chunks.

    Those that are so when it starts: it walks from the first to `last_day` and `last_batch` by
    way of `day` and `batch`, which are committed with each chunk. Without an end one is under way.
    """

    class Action(models.TextChoices):
        REPLAY = "replay", "replayed"
        DISCARD = "discard", "discarded"
        FORWARD = "forward", "replayed"  # deliveries

    action = models.CharField(max_length=10, choices=Action)
    matching = models.JSONField(help_text="What is asked: a selection's fields.")
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    cancelled = models.BooleanField(default=False)
    error = models.CharField(max_length=200, blank=True, help_text="Why it ended early.")
    total = models.IntegerField(null=True, help_text="How many matched when it began.")
    done = models.IntegerField(default=0)
    day = models.DateField(null=True)
    batch = models.BigIntegerField(default=0)
    last_day = models.DateField(null=True)
    last_batch = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            # One at a time: two could decide differently about the same batches.
            models.UniqueConstraint(
                fields=["finished_at"],
                condition=Q(finished_at=None),
                nulls_distinct=False,
                name="resolution_one_at_a_time",
            ),
        ]

    @property
    def percent(self) -> int:
        """How far it is; 100 also where some were settled otherwise meanwhile."""
        if self.finished_at is not None and not self.cancelled and not self.error:
            return 100
        return min(99, 100 * self.done // self.total) if self.total else 0

    @property
    def permission(self) -> str:
        """What it takes to start or cancel it."""
        return permission(self.action)


def permission(action: str) -> str:
    """What it takes to do this with dead batches, or with deliveries."""
    if action == Resolution.Action.FORWARD:
        return "ingest.replay_delivery"
    return f"ingest.{action}_deadbatch"
