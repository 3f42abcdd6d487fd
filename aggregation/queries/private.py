"""Events and people in private mode: sums of days that are released, and nothing else.

What is answered is made of released numbers and of the project's settings alone, so that it tells
of nobody more than these do: also what is missing is missing in the same way whoever sent what.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.utils import timezone

from aggregation.budgets import DELTA, Series
from aggregation.definitions import ALL, EVENT, midnight
from aggregation.models import Level, Policy, ReleasedDay, ReleasedName
from aggregation.queries import pages
from aggregation.queries.answers import Answer, Group, Number, PrivateStanding
from aggregation.queries.parameters import EventQuestion, refuse
from aggregation.queries.spans import Span

# Days of names that are read.
MOST_READ = 200_000
TOLD = ("count", "people", "sessions", "bytes", "withheld")
_CODE = "private_mode"


def over_time(using: str, question: EventQuestion, policy: Policy) -> Answer:
    """Answer with the groups of a page, by size, from the database that the policy is of. Raises
    ValidationError where that isn't released, or is too much."""
    _check(question)
    span, now = question.span, timezone.now()
    days = list(_in(using, ReleasedDay, question))
    by_name = question.group_by or question.event
    groups = _by_name(using, question) if by_name else {ALL: _Line(span)}
    if ALL in groups:
        for row in days:
            groups[ALL].add(row.day, row.events, row.people)
    values = [value for value in groups if groups[value].shown or not question.group_by]
    sizes = [groups[value].size for value in values]
    places, following = pages.turn(question.page, question.mark, values, sizes)
    return Answer(
        span=span,
        standing=_standing(policy, min((row.drawn_at for row in days), default=now)),
        group_by=question.group_by,
        groups=[
            Group(values[place] if question.group_by else None, groups[values[place]].numbers)
            for place in places
        ],
        withheld_groups=0,
        withheld_cells=0,
        numbers=TOLD,
        next=following,
    )


def _check(question: EventQuestion) -> None:
    """Refuse what private mode doesn't release."""
    span = question.span
    if span.level == Level.HOUR:
        refuse("interval", "must be day or month: in private mode hours aren't released", _CODE)
    if span.made_of == Level.HOUR:
        refuse("tz", "must be UTC: in private mode only its whole days are released", _CODE)
    if question.group_by not in {ALL, EVENT}:
        refuse("group_by", "must be event: in private mode no dimension is released", _CODE)


@dataclass
class _Line:
    """A group's numbers, one a bucket, and of how many of its days they are."""

    span: Span
    events: dict[int, int] = field(default_factory=dict)
    people: dict[int, int] = field(default_factory=dict)
    days: dict[int, int] = field(default_factory=dict)

    def add(self, day: date, events: int, people: int | None = None) -> None:
        """Add a day that is released."""
        bucket = bisect_right(self.span.edges, midnight(day)) - 1
        self.events[bucket] = self.events.get(bucket, 0) + events
        self.days[bucket] = self.days.get(bucket, 0) + 1
        # Of several days the persons' numbers can't be added up: most of them are the same ones.
        if people is not None and self.span.level == Level.DAY:
            self.people[bucket] = people

    @property
    def shown(self) -> bool:
        return bool(self.days)

    @property
    def size(self) -> int:
        return sum(self.events.values())

    @property
    def numbers(self) -> Mapping[str, list[Number]]:
        """As they are told; None where nothing is released."""
        edges = self.span.edges
        buckets = range(len(self.span.starts))
        nothing: list[Number] = [None] * len(buckets)
        return {
            "count": [self.events.get(bucket) for bucket in buckets],
            "people": [self.people.get(bucket) for bucket in buckets],
            "sessions": nothing,
            "bytes": nothing,
            "withheld": [
                (edges[bucket + 1] - edges[bucket]).days - self.days.get(bucket, 0)
                for bucket in buckets
            ],
        }


def _by_name(using: str, question: EventQuestion) -> dict[str, _Line]:
    found = _in(using, ReleasedName, question)
    if question.event:
        found = found.filter(name=question.event)
    if (rows := found.count()) > MOST_READ:
        refuse(
            "from",
            f"must lie closer to `to`: there are {rows:,} numbers, and at most {MOST_READ:,} are "
            "looked at. Ask for less time",
            "too_costly",
        )
    lines = {question.event: _Line(question.span)} if question.event else {}
    for name, day, events in found.values_list("name", "day", "events"):
        lines.setdefault(name, _Line(question.span)).add(day, events)
    return lines


def _in(using: str, table: Any, question: EventQuestion) -> Any:
    """The rows of the span's days."""
    span = question.span
    return table.objects.using(using).filter(
        project_id=question.project_id, day__gte=span.start.date(), day__lt=span.end.date()
    )


def _standing(policy: Policy, drawn_at: datetime) -> PrivateStanding:
    """How far the numbers go, and what they may tell. `drawn_at` is when the first was drawn: who
    asked for erasure since is in it. Of that the day is told: the moment would tell how long it
    took, and so how much there was to count."""
    terms, spending = policy.terms, policy.spending
    until = spending.last + timedelta(days=1) if spending.last else policy.private_from
    return PrivateStanding(
        complete_until=midnight(until or drawn_at.date()),
        clean_until=midnight(drawn_at.date()),
        privacy={
            "epsilon": float(terms.epsilon),
            "delta": DELTA,
            "lifetime_epsilon": float(policy.lifetime_epsilon),
            "lifetime_delta": spending.lifetime_delta,
            "spent_epsilon": float(spending.epsilon),
            "private_from": policy.private_from,
            "most_events": terms.most_events,
            "most_names": terms.most_names,
            "margins": {series.value: terms.margin(series) for series in Series},
            "fewest_of_a_name": terms.threshold,
        },
    )
