"""Projects in private mode, and days of theirs that are released."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from aggregation.budgets import DELTA
from aggregation.models import Mode, Policy, ReleasedDay, ReleasedName
from tests.harness import Project
from tests.ingest.traces import project_id

# Of this instance: the day that was drawn last by the clock.
LATEST = 2


def day(ago: int = LATEST) -> date:
    return timezone.now().date() - timedelta(days=ago)


def private(project: Project, since: int = LATEST, **policy: Any) -> Policy:
    """The policy of a project that is private for so many days."""
    return Policy.objects.create(
        project_id=project_id(project), mode=Mode.PRIVATE, private_from=day(since), **policy
    )


def spent(project: Project, **policy: Any) -> Policy:
    """The same, with nothing left to be drawn: the service's worker won't."""
    return private(project, daily_epsilon=Decimal(1), lifetime_epsilon=Decimal("0.5"), **policy)


def released(
    project: Project, on: date, events: int, people: int, names: Mapping[str, int] | None = None
) -> None:
    """A day as it is written down when it is drawn."""
    ReleasedDay.objects.create(
        project_id=project_id(project), day=on, drawn_at=timezone.now(), epsilon=Decimal("0.25"),
        delta=DELTA, most_events=20, most_names=5, events=events, people=people,
    )  # fmt: skip
    for name, count in (names or {}).items():
        ReleasedName.objects.create(project_id=project_id(project), day=on, name=name, events=count)


def days(project: Project) -> list[date]:
    """Those that are released, in their order."""
    found = ReleasedDay.objects.filter(project_id=project_id(project)).order_by("day")
    return list(found.values_list("day", flat=True))
