"""Schedules on the running service, whose intervals are the operator's to change."""

from collections.abc import Iterator
from contextlib import contextmanager

from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tests.harness import wait_for


@contextmanager
def every_second(name: str) -> Iterator[None]:
    """Meanwhile beat sends this schedule's task each second."""
    row = wait_for(PeriodicTask.objects.filter(name=name).first, 30, f"beat to seed {name!r}")
    second, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    _change(name, second)
    try:
        yield
    finally:
        _change(name, row.interval)


def _change(name: str, interval: IntervalSchedule) -> None:
    row = PeriodicTask.objects.get(name=name)
    row.interval = interval
    row.save()
