"""Metrics over time: the series of a name, merged.

Each series is decided about by itself, and what is answered is merged from what is released of
them: nothing that is withheld can be computed from it. Series that are no person's are exempt.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
from django.utils import timezone
from numpy.typing import NDArray

from aggregation.definitions import starting
from aggregation.disclosure import Grid, protect
from aggregation.models import Kind, Level, MetricMonth
from aggregation.queries import pages, reading, series, standing
from aggregation.queries.answers import Answer, Group, Number, Standing
from aggregation.queries.parameters import MetricQuestion, refuse
from aggregation.queries.reading import Whole
from aggregation.queries.series import QUANTILES, Floats, People, Series
from aggregation.queries.spans import HOUR, whole
from telemetry_site.replica import reader

# Series by buckets that are read; where quantiles are asked for, each has some hundred numbers.
MOST_READ = 500_000
MOST_HISTOGRAMS = 100_000
_MOST = np.finfo(np.float64).max
Chosen = NDArray[np.bool_]


def over_time(question: MetricQuestion) -> Answer:
    """Answer with the groups of a page, by size. Raises ValidationError where that is too much."""
    using = reader()
    now = standing.of(using, question.project_id, Kind.POINTS, question.span.made_of)
    _check_cost(using, question)
    return _Merged(question, series.read(using, question), now).answer()


def _check_cost(using: str, question: MetricQuestion) -> None:
    span = question.span
    start, end = whole(Level.MONTH, span.start, span.end)
    rows = MetricMonth.objects.using(using).filter(
        project_id=question.project_id,
        name=question.name,
        bucket__gte=start,
        bucket__lt=end,
        tags__contains=question.tags,
        **({"node": question.node} if question.node else {}),
    )
    found = rows.values("series").distinct().count()
    length = {Level.HOUR: HOUR, Level.DAY: 24 * HOUR, Level.MONTH: 28 * 24 * HOUR}[span.made_of]
    buckets = (span.end - span.start) // length
    most = MOST_HISTOGRAMS if question.aggregate in QUANTILES else MOST_READ
    if found * buckets > most:
        refuse(
            "from",
            f"must lie closer to `to`: {found} series of {buckets} "
            f"{span.made_of.label.lower()}s each would be merged, and at most {most:,} of these "
            "are. Ask for less time, a longer interval, or some of the nodes or tags",
            "too_costly",
        )


def _withheld(people: People, level: Level, since: datetime, k: int) -> list[int]:
    """The buckets of a series that are withheld, or have to look as if. Months without a person
    are exempt, and what is before `since` is of no whole day or month."""
    months = {
        starting(Level.MONTH, reading.moment(bucket))
        for of_level in people.values()
        for bucket, number in of_level
        if number
    }
    grids = []
    for each in (Level.MONTH, Level.DAY, Level.HOUR)[: 3 - level]:
        cells = ((reading.moment(bucket), number) for bucket, number in people.get(each, []))
        grids.append(
            Grid.of(
                (bucket, "", number)
                for bucket, number in cells
                if starting(Level.MONTH, bucket) in months and (each > level or bucket >= since)
            )
        )
    protected = protect(grids, k)
    buckets = protected.grids[-1].buckets
    return [reading.number(buckets[at]) for at in np.flatnonzero(~protected.released[-1].all(0))]


class _Merged:
    """What is released of the series, merged by group and bucket of the answer."""

    def __init__(self, question: MetricQuestion, read: Series, now: Standing) -> None:
        self._question, self._series, self._now = question, read, now
        span = question.span
        self._groups = sorted({*read.values}) if question.group_by else [""]
        self._edges = np.array([reading.number(edge) for edge in span.edges])
        self._shape = (len(self._groups), len(span.starts))
        lines = {group: line for line, group in enumerate(self._groups)}
        line_of_row = [lines[value] if question.group_by else 0 for value in read.values]
        self._withheld = np.zeros(self._shape, np.int64)
        self._cells = self._places(read.buckets)
        since, _ = whole(Level(min(span.made_of + 1, Level.MONTH)), span.start, span.end)
        for row, people in read.people.items():
            withheld = np.array(_withheld(people, span.made_of, since, now.threshold), np.int64)
            own = read.cells(row)
            self._cells[own][np.isin(read.buckets[own], withheld)] = -1
            places = self._places(withheld)
            np.add.at(self._withheld[line_of_row[row]], places[places >= 0], 1)
        told = self._cells >= 0
        rows = np.array(line_of_row, np.int64)[read.rows]
        self._cells = np.where(told, rows * self._shape[1] + self._cells, -1)

    def _places(self, moments: Whole) -> Whole:
        """The bucket of the answer that each moment is in, -1 where it is in none."""
        places = np.searchsorted(self._edges, moments, side="right") - 1
        return np.where(places < self._shape[1], places, -1)

    def answer(self) -> Answer:
        """The groups of the page that is asked for."""
        question = self._question
        sizes = self._added(self._series.count, self._cells >= 0).sum(1)
        rows, following = [0], None
        if question.group_by:
            shown = np.flatnonzero(sizes)
            places, following = pages.turn(
                question.page,
                question.mark,
                [self._groups[row] for row in shown],
                [int(size) for size in sizes[shown]],
            )
            rows = [int(shown[place]) for place in places]
        aggregate = question.aggregate
        values = self._quantiles(rows) if aggregate in QUANTILES else self._values(rows)
        return Answer(
            span=question.span,
            standing=self._now,
            group_by=question.group_by,
            groups=[
                Group(
                    self._groups[row] if question.group_by else None,
                    {"values": line, "withheld": self._withheld[row].tolist()},
                )
                for row, line in zip(rows, values, strict=True)
            ],
            withheld_groups=int((self._withheld.any(1) & (sizes == 0)).sum()),
            withheld_cells=int(self._withheld.sum()),
            numbers=("values", "withheld"),
            next=following,
            about={"name": question.name, "agg": question.aggregate},
        )

    def _added(self, numbers: NDArray[Any], chosen: Chosen) -> Floats:
        cells, (groups, buckets) = self._cells[chosen], self._shape
        added = np.bincount(cells, numbers[chosen], groups * buckets)
        return added.reshape(self._shape).clip(-_MOST, _MOST)

    def _quantiles(self, rows: list[int]) -> list[list[Number]]:
        """A quantile of each bucket of some groups."""
        groups, buckets = self._shape
        line_of = np.full(groups, -1)
        line_of[rows] = np.arange(len(rows))
        lines = np.where(self._cells < 0, -1, line_of[self._cells // buckets])
        cells = np.where(lines < 0, -1, lines * buckets + self._cells % buckets)
        q = QUANTILES[self._question.aggregate]
        found = self._series.histograms.quantiles(q, cells, len(rows) * buckets)
        return [[*found[n : n + buckets]] for n in range(0, len(found), buckets)]

    def _values(self, rows: list[int]) -> list[list[Number]]:
        """What is asked for of each bucket of some groups. What adds up is 0 where nothing is."""
        aggregate, read, told = self._question.aggregate, self._series, self._cells >= 0
        count = self._added(read.count, told)
        if aggregate == "count":
            untold = (count == 0) & (self._withheld > 0)
            return _told(count[rows], untold[rows], int)
        told &= ~np.isnan(read.numbers)
        known = self._added(read.count, told)
        if aggregate in ("min", "max"):
            return _told(self._extreme(aggregate, told)[rows], (known == 0)[rows])
        numbers = self._added(read.numbers, told)
        if aggregate == "avg":
            return _told((numbers / np.maximum(known, 1))[rows], (known == 0)[rows])
        if aggregate == "rate":
            numbers = numbers / self._question.span.seconds(timezone.now())
        untold = (known == 0) & ((count > 0) | (self._withheld > 0))
        return _told(numbers[rows], untold[rows])

    def _extreme(self, aggregate: str, told: Chosen) -> Floats:
        extreme = np.full(self._shape, np.inf if aggregate == "min" else -np.inf)
        merge = np.minimum if aggregate == "min" else np.maximum
        merge.at(extreme.reshape(-1), self._cells[told], self._series.numbers[told])
        return extreme


def _told(
    numbers: Floats, untold: Chosen, of: Callable[[float], Number] = float
) -> list[list[Number]]:
    """The numbers, with None for what isn't told."""
    return [
        [None if hidden else of(number) for number, hidden in zip(*line, strict=True)]
        for line in zip(numbers.tolist(), untold.tolist(), strict=True)
    ]
