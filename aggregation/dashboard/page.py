"""All of a dashboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from aggregation.dashboard import events, measurements
from aggregation.dashboard.asked import Asked, before
from aggregation.dashboard.panels import Panel, Tile
from aggregation.models import Dimension
from aggregation.queries.answers import Answer, PrivateStanding, Standing
from aggregation.queries.spans import Span


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What is told of a time, and of the one before where there is one."""

    now: Answer
    old: Answer | None
    asked_at: datetime
    tiles: Sequence[Tile]
    time: Panel
    groups: Sequence[Panel]
    metric: Panel
    nodes: Panel

    @property
    def span(self) -> Span:
        return self.now.span

    @property
    def standing(self) -> Standing | PrivateStanding:
        return self.now.standing

    @property
    def is_complete(self) -> bool:
        """Whether all events of the time that were stored when it was asked for are counted."""
        return self.standing.complete_until >= min(self.asked_at, self.span.end)

    @property
    def is_clean(self) -> bool:
        """Whether nobody is in it who had asked for erasure by then."""
        return self.standing.clean_until >= self.asked_at


def look(asked: Asked) -> Dashboard:
    """The dashboard. Raises ValidationError where the time or the event is refused; a panel whose
    own question is refused says so."""
    asked_at, event = timezone.now(), asked.given["event"]
    now = asked.events(asked.time, event=event)
    old = events.or_none(lambda: asked.events(before(now.span), event=event))
    dimensions = Dimension.objects.filter(project_id=asked.project_id).order_by("name")
    return Dashboard(
        now=now,
        old=old,
        asked_at=asked_at,
        tiles=events.tiles(now, old),
        time=events.over_time(asked, now, old),
        groups=[
            events.by_name(asked),
            *(events.by_dimension(asked, dimension) for dimension in dimensions),
        ],
        metric=measurements.of_a_metric(asked, now.span),
        nodes=measurements.of_nodes(asked),
    )
