"""Drawing days of private mode: the only writer of what is released, which is never drawn again.

When a day is drawn depends on the clock alone, and not on what anybody sent. It is read from the
raw events in short statements, clipped, and drawn in the transaction that writes it down together
with what it cost: a death before the commit has released nothing, and after it there is nothing
left to do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, LiteralString

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from psycopg import sql

from aggregation import retention, slices
from aggregation.budgets import DELTA, Terms
from aggregation.clipping import Clipped, Contributions
from aggregation.definitions import Bucket, midnight
from aggregation.event_rollups import CUT, SLICE_EVENTS
from aggregation.models import Kind, Level, Mode, Policy, ReleasedDay, ReleasedName
from ingest import partitions
from telemetry_site.alone import alone_at

# Advisory locks of this kind, one a project.
RELEASING = 0x6E6F6973  # "nois"


@dataclass(frozen=True, slots=True)
class Due:
    """A day that is to be drawn, and on which terms."""

    project_id: int
    day: date
    terms: Terms


def release() -> Iterator[Due]:
    """Draw what is due; yields after each day that was drawn."""
    for policy in Policy.objects.filter(mode=Mode.PRIVATE).order_by("pk"):
        yield from _release(policy)


def _release(policy: Policy) -> Iterator[Due]:
    with alone_at(RELEASING, policy.pk) as alone:
        if not alone:
            return
        for due in _due(policy):
            if not draw(due):
                break
            yield due


def _due(policy: Policy) -> list[Due]:
    """The days that can be drawn now, the oldest first. One without its raw data never can."""
    if not policy.spending.left:
        return []
    last = timezone.now().date() - timedelta(days=settings.PRIVATE_DELAY_DAYS + 1)
    drawn = set(
        ReleasedDay.objects.filter(project_id=policy.pk, day__gte=policy.private_from)
        .values_list("day", flat=True)
    )  # fmt: skip
    return [
        Due(policy.pk, day, policy.terms)
        for day in sorted(partitions.days_there(partitions.EVENTS))
        if policy.private_from and policy.private_from <= day <= last and day not in drawn
        and not retention.is_sealed(Bucket(Level.HOUR, midnight(day), policy.pk, Kind.EVENTS))
    ]  # fmt: skip


def draw(due: Due) -> bool:
    """Draw a day and write it down; False where that mustn't be: it is drawn already, the budget is
    spent, or the project has other terms by now."""
    # OpenDP is loaded by the process that draws, and by no other.
    from aggregation import noise

    # Who asks for erasure from here on may be in it.
    begun = timezone.now()
    clipped = _clipped(due)
    with transaction.atomic():
        # One day of a project at a time: what is spent is known, and its mode and terms stay.
        policy = Policy.objects.select_for_update().get(pk=due.project_id)
        if not _may_be_drawn(due, policy):
            return False
        drawn = noise.draw(due.terms, clipped)
        ReleasedDay.objects.create(
            project_id=due.project_id,
            day=due.day,
            drawn_at=begun,
            epsilon=due.terms.epsilon,
            delta=DELTA,
            most_events=due.terms.most_events,
            most_names=due.terms.most_names,
            events=drawn.events,
            people=drawn.people,
        )
        ReleasedName.objects.bulk_create(
            ReleasedName(project_id=due.project_id, day=due.day, name=name, events=events)
            for name, events in sorted(drawn.names.items())
        )
    return True


def _may_be_drawn(due: Due, policy: Policy) -> bool:
    there = ReleasedDay.objects.filter(project_id=due.project_id, day=due.day).exists()
    as_meant = policy.mode == Mode.PRIVATE and policy.terms == due.terms
    return as_meant and not there and policy.spending.left > 0


def _clipped(due: Due) -> Clipped:
    """The day's counts, as its raw events are now."""
    day = Bucket(Level.DAY, midnight(due.day), due.project_id, Kind.EVENTS)
    contributions = Contributions(due.terms, due.day)
    for start, end in slices.cut(day, CUT, SLICE_EVENTS):
        given: dict[str, Any] = {"project": due.project_id, "start": start, "end": end}
        contributions.add(slices.read(_BY_PERSON, given))
    return contributions.clipped


# What names nobody, not even a session, isn't counted: one person could be behind all of it.
_OF_A_SLICE: LiteralString = """
    SELECT name, string_agg(person, ''), string_agg(int8send(count), '') FROM (
        SELECT name, coalesce(subject, session) AS person, count(*) AS count
        FROM ingest_event AS raw
        WHERE {counted} AND (subject IS NOT NULL OR session IS NOT NULL)
        GROUP BY name, coalesce(subject, session)
    ) AS done GROUP BY name
"""
_BY_PERSON = sql.SQL(_OF_A_SLICE).format(counted=slices.COUNTED)
