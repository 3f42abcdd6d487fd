"""A project that keeps less and less: what was there of the days that went, when they went."""

from datetime import date, datetime
from typing import Any

from aggregation import retention
from aggregation.models import Kind, Policy
from ingest.models import Event, MetricPoint
from privacy.models import PersonRestriction
from tests.harness import Project
from tests.ingest.traces import project_id

RAW: dict[Kind, Any] = {Kind.EVENTS: Event, Kind.POINTS: MetricPoint}


class Kept:
    """The raw data that a project's numbers are of: what counts of it now, and what did of days
    that are gone."""

    def __init__(self, project: Project, kind: Kind) -> None:
        self._pk, self._kind = project_id(project), kind
        self._gone: list[Any] = []

    @property
    def since(self) -> date:
        """The first day that isn't gone."""
        policy = Policy.objects.filter(pk=self._pk).first() or Policy()
        days = policy.events_from if self._kind == Kind.EVENTS else policy.points_from
        return days or date.min

    def expire(self, days: int, *, die: bool = False) -> None:
        """Let the project keep so many days; a worker that dies has done a part of it."""
        field = "event_days" if self._kind == Kind.EVENTS else "point_days"
        policy, _ = Policy.objects.update_or_create(
            pk=self._pk, defaults={"threshold": 1, field: days}
        )
        counted, going = self._there(), retention.expire(policy, self._kind)
        next(going, None)
        for _ in () if die else going:
            pass
        self._gone += [row for row in counted if row.occurred_at.date() < self.since]

    def rows(self, *, gone: bool) -> list[Any]:
        """What counts, in order; of the days that are gone as well, or not."""
        rows = [*self._there(), *(self._gone if gone else [])]
        return sorted(rows, key=_place)

    def _there(self) -> list[Any]:
        restrictions = PersonRestriction.objects.filter(project_id=self._pk, suppressed=True)
        nobody = {bytes(subject) for subject in restrictions.values_list("subject", flat=True)}
        return [
            row
            for row in RAW[self._kind].objects.filter(project_id=self._pk)
            if row.occurred_at.date() >= self.since
            and (row.subject is None or bytes(row.subject) not in nobody)
        ]


def _place(row: Any) -> tuple[datetime, Any, int, int]:
    return row.occurred_at, row.batch_id, row.position, getattr(row, "part", 0)
