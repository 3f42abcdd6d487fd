"""Rows the service keeps about itself."""

from datetime import timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone


class LeaseQuerySet(models.QuerySet["Lease"]):
    def take(self, name: str, holder: str, seconds: float) -> bool:
        """Hold `name` for `seconds` from now; False where another holder's time isn't over.

        One conditional UPDATE decides, so that of two that ask at once one gets it.
        """
        now = timezone.now()
        mine = Q(holder=holder) | Q(until__lt=now)
        until = now + timedelta(seconds=seconds)
        if self.filter(mine, name=name).update(holder=holder, until=until):
            return True
        _, created = self.get_or_create(name=name, defaults={"holder": holder, "until": until})
        return created

    def release(self, name: str, holder: str) -> None:
        """Let the next one take `name` at once."""
        self.filter(name=name, holder=holder).update(until=timezone.now())


class Lease(models.Model):
    """Who does a thing that only one process may do, or did it last, and until when that holds."""

    name = models.CharField(max_length=50, primary_key=True)
    holder = models.CharField(max_length=200)
    until = models.DateTimeField()

    objects = LeaseQuerySet.as_manager()


class PauseQuerySet(models.QuerySet["Pause"]):
    def hold(self, queue: str) -> bool:
        """Whether the queue is paused."""
        return self.filter(pk=queue).exists()


class Pause(models.Model):
    """A queue on which nobody works until somebody resumes it.

    The row is the truth: it outlives workers, `up` and Redis. Workers look at it by themselves.
    """

    queue = models.CharField(max_length=50, primary_key=True)
    since = models.DateTimeField(auto_now_add=True)
    by = models.CharField(max_length=150, help_text="The name of who paused it.")
    reason = models.CharField(max_length=200)

    objects = PauseQuerySet.as_manager()


class Queue(models.Model):
    """No table: what the admin's page of the queues hangs on, and its permissions."""

    name = models.CharField(max_length=50, primary_key=True)

    class Meta:
        managed = False
        default_permissions = ("view",)
        permissions = (("operate_queue", "Can pause queues, revoke tasks and run schedules"),)
