"""Rows of the ledger as a person asks for them: in bounded time, whatever is asked.

An index leads to what is looked at: the batches of a state that has one, of a project, or all, in
the order they came. What else is asked is checked on the latest of those alone, and the answer says
how far back that reached.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import reduce
from operator import and_
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.fields.tuple_lookups import (
    Tuple,
    TupleGreaterThanOrEqual,
    TupleLessThanOrEqual,
)
from django.utils import timezone

from ingest.models import Batch, BatchClaim, Project
from ingest.partitions import LEDGER

# Rows on which what no index knows is checked: a tenth of a second's work.
LOOKED_THROUGH = 100_000
# States with an index by day and id: ingest_batch_waiting, _dead and _turned_away.
INDEXED_STATES = frozenset({"received", "dead", "rejected", "duplicate", "discarded"})

# Digits of a ledger id that surely fit.
MOST_DIGITS = 18


@dataclass(frozen=True)
class Age:
    """How long ago a batch came; of those longer ago the oldest are shown first."""

    label: str
    ago: timedelta
    oldest_first: bool = False

    @property
    def condition(self) -> Q:
        moment = timezone.now() - self.ago
        return Q(received_at__lt=moment) if self.oldest_first else Q(received_at__gte=moment)


AGES = {
    "under-10m": Age("less than 10 minutes", timedelta(minutes=10)),
    "under-1h": Age("less than an hour", timedelta(hours=1)),
    "under-1d": Age("less than a day", timedelta(days=1)),
    "over-1m": Age("more than a minute, oldest first", timedelta(minutes=1), oldest_first=True),
    "over-1h": Age("more than an hour, oldest first", timedelta(hours=1), oldest_first=True),
    "over-1d": Age("more than a day, oldest first", timedelta(days=1), oldest_first=True),
}


@contextmanager
def walking_an_index() -> Iterator[None]:
    """Within it PostgreSQL walks an index in its order, and stops.

    Of a comparison of rows it estimates the first column alone. So it takes a part of a day for all
    of it, and would rather read and sort the day.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off;"
            "SET LOCAL max_parallel_workers_per_gather = 0"
        )
        yield


@dataclass(frozen=True)
class Looked:
    """Rows that match, and how far was looked for them: None where all were looked at."""

    rows: QuerySet[Any]
    until: datetime | None = None

    def first(self, most: int, *columns: str) -> list[Any]:
        """The first of the rows, or of these columns of them."""
        rows = self.rows.values_list(*columns) if columns else self.rows
        with walking_an_index():
            return list(rows[:most])


def look(
    rows: QuerySet[Any], order: Sequence[str], rest: Q, *, oldest_first: bool = False
) -> Looked:
    """Of `rows`, which an index has in this order, those that `rest` holds for.

    Without a rest the index alone answers, and all are looked at.
    """
    rows = rows.order_by(*(order if oldest_first else (f"-{name}" for name in order)))
    if not rest:
        return Looked(rows)
    latest = rows.values_list(*order, "received_at")
    with walking_an_index():
        edge = next(iter(latest[LOOKED_THROUGH : LOOKED_THROUGH + 1]), None)
    if edge is None:
        return Looked(rows.filter(rest))
    *place, until = edge
    within = TupleLessThanOrEqual if oldest_first else TupleGreaterThanOrEqual
    return Looked(rows.filter(rest, within(Tuple(*order), place)), until)


@dataclass(frozen=True)
class Selection:
    """What somebody asks of the ledger; what is empty isn't asked."""

    state: str = ""
    project: int | None = None
    format: str = ""
    day: date | None = None
    age: str = ""
    error: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "Selection":
        """From an address or a form; raises ValueError where a value is none of its field's."""
        if given.get("state", "") not in ("", *Batch.State.values):
            raise ValueError("state")
        if given.get("age", "") not in ("", *AGES):
            raise ValueError("age")
        return cls(
            state=given.get("state", ""),
            project=int(given["project"]) if given.get("project") else None,
            format=given.get("format", ""),
            day=date.fromisoformat(given["day"]) if given.get("day") else None,
            age=given.get("age", ""),
            error=given.get("error", ""),
        )

    @property
    def given(self) -> dict[str, str]:
        """What `parse` takes; without what isn't asked."""
        return {name: str(value) for name, value in asdict(self).items() if value}

    def look(self, *more: Q) -> Looked:
        """The batches that match this and whatever `more` says, latest first but for an age."""
        rows, asked = self._rows(), self._asked(*more)
        order = ("day", "id")
        if self.state in INDEXED_STATES:
            rows, asked["state"] = rows.filter(state=self.state), Q()
        elif self.project is not None:
            # Index ingest_batch_received.
            rows, asked["project"] = rows.filter(project=self.project), Q()
            order = ("received_at", "id")
        oldest_first = bool(self.age) and AGES[self.age].oldest_first
        return look(rows, order, _all(asked.values()), oldest_first=oldest_first)

    def all(self) -> QuerySet[Batch]:
        """Every batch that matches, however long that takes: nothing for a page."""
        return self._rows().filter(_all(self._asked().values()))

    def find(self, term: str) -> Looked:
        """The batch with this batch id, ledger id or request id, if it matches.

        The first two are found wherever they are, a request id among the latest batches.
        """
        if term.isdecimal() and len(term) <= MOST_DIGITS:
            return self._exactly(Q(day__in=_days_kept(), id=int(term)))
        if claimed := self._claimed(term):
            return self._exactly(claimed)
        return self.look(Q(request_id=term))

    def _rows(self) -> QuerySet[Batch]:
        rows = Batch.objects.defer("payload").select_related("project")
        return rows.filter(day=self.day) if self.day else rows

    def _asked(self, *more: Q) -> dict[str, Q]:
        """Everything asked but the day, by name."""
        asked = {
            name: Q(**{name: value})
            for name in ("state", "project", "format", "error")
            if (value := getattr(self, name))
        }
        if self.age:
            asked["age"] = AGES[self.age].condition
        return asked | {str(number): condition for number, condition in enumerate(more)}

    def _exactly(self, which: Q) -> Looked:
        return Looked(self.all().filter(which).order_by("-day"))

    def _claimed(self, term: str) -> Q:
        """Which ledger rows have claimed a batch id; nothing where it is none, or unknown."""
        try:
            batch_id = UUID(term)
        except ValueError:
            return Q()
        # Claims are found by project and id: one look into the index for each project.
        projects = Project.objects.values_list("pk", flat=True)
        claims = BatchClaim.objects.filter(project__in=[*projects], key=batch_id, batch_id=batch_id)
        which = Q()
        for day, ledger_id in claims.values_list("ledger_day", "ledger_id"):
            which |= Q(day=day, id=ledger_id)
        return which


def _all(conditions: Iterable[Q]) -> Q:
    return reduce(and_, conditions, Q())


def _days_kept() -> list[date]:
    """The days that the ledger has: so that an id alone needn't be looked for in an index led by
    the day."""
    today = timezone.now().date()
    return [today - timedelta(days=ago) for ago in range(-1, LEDGER.keep + 2)]
