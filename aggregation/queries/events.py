"""Events, people and sessions over time."""

from bisect import bisect_right
from itertools import product
from typing import Any, LiteralString

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from aggregation.definitions import ALL, EVENT, TABLES
from aggregation.disclosure import Grid, Protected, protect
from aggregation.models import EventMonth, Kind, Level, Mode, Policy
from aggregation.queries import pages, private, reading, standing
from aggregation.queries.answers import Answer, Days, Group, Number, Standing
from aggregation.queries.parameters import EventQuestion, refuse
from aggregation.queries.reading import Axis, Cells, Layout, Whole
from aggregation.queries.spans import whole
from aggregation.sketches import Distinct
from telemetry_site.replica import reader

NUMBERS = ("people", "count", "sessions", "bytes")
DISTINCT = ("people", "sessions")
# In this order.
TOLD = ("count", *DISTINCT, "bytes")
# What may be read to decide what is released: that needs all groups.
MOST_READ = 1_000_000
Tables = dict[tuple[Level, str], Cells]


def over_time(question: EventQuestion) -> Answer:
    """Answer with the groups of a page, by size. Raises ValidationError where that is too much."""
    using, span = reader(), question.span
    policy = Policy.of(question.project_id, using)
    if policy.mode == Mode.PRIVATE:
        return private.over_time(using, question, policy)
    now = standing.under(policy, using, Kind.EVENTS, span.made_of)
    _check_cost(using, question)
    tables = _read(using, question)
    protected = _protect(question, tables, now.threshold)
    cells = tables[span.made_of, _dimensions(question)[-1]]
    return _Numbers(using, question, protected, cells).answer(now)


def daily(question: EventQuestion) -> Days:
    """Answer with each day's numbers of all events."""
    return Days(over_time(question))


def _dimensions(question: EventQuestion) -> list[str]:
    """What has to be read to decide about the last of them."""
    dimensions = [ALL]
    if question.event or question.group_by == EVENT:
        dimensions.append(EVENT)
    if question.group_by not in {ALL, EVENT}:
        dimensions.append(question.group_by)
    return dimensions


def _check_cost(using: str, question: EventQuestion) -> None:
    dimensions, span = _dimensions(question), question.span
    if len(dimensions) == 1:
        return
    start, end = whole(Level.MONTH, span.start, span.end)
    groups = EventMonth.objects.using(using).filter(
        project_id=question.project_id,
        dimension__in=dimensions,
        bucket__gte=start,
        bucket__lt=end,
    ).values("dimension", "value").distinct().count()  # fmt: skip
    buckets = len(Axis.of(span.edges, span.made_of != span.level).parts)
    if groups * buckets > MOST_READ:
        refuse(
            "from",
            f"must lie closer to `to`: there are {groups} groups, of {buckets} "
            f"{span.made_of.label.lower()}s each, and at most {MOST_READ:,} numbers are looked at. "
            "Ask for less time, or for a longer interval",
            "too_costly",
        )


# --- reading ---


def _read(using: str, question: EventQuestion) -> Tables:
    """The rollups of the span and of the levels above it, in one statement: they go together."""
    span, dimensions = question.span, _dimensions(question)
    levels = [level for level in reversed(Level) if level >= span.made_of]
    start, end = span.start, span.end
    parameters: dict[str, Any] = {"project": question.project_id, "dimensions": dimensions}
    parts = []
    # A bucket is decided about with all of its day or month.
    for level in reversed(levels):
        above = Level(min(level + 1, Level.MONTH))
        start, end = whole(above, start, end)
        parameters |= {f"start{level}": start, f"end{level}": end}
        parts.append(_part(level, level == span.made_of))
    found: dict[tuple[Level, str], list[Any]] = {
        (level, dimension): [] for level in levels for dimension in dimensions
    }
    statement = sql.SQL(" UNION ALL ").join(parts)
    for level, dimension, *packed in reading.rows(using, statement, parameters):
        found[Level(level), dimension].append(packed)
    return {
        key: Cells.of(NUMBERS, packed) if key[0] == span.made_of
        # Of levels that are only decided with, people are enough.
        else Cells.of(NUMBERS[:1], [of[:3] for of in packed])
        for key, packed in found.items()
    }  # fmt: skip


def _part(level: Level, answered: bool) -> sql.Composed:
    return sql.SQL(_PART).format(
        level=sql.Literal(int(level)),
        numbers=sql.SQL(", ").join(
            sql.SQL("string_agg(int8send({}), '')").format(sql.Identifier(name))
            if answered or name == "people"
            else sql.SQL("NULL::bytea")
            for name in NUMBERS
        ),
        table=sql.Identifier(TABLES[Kind.EVENTS, level]._meta.db_table),
        start=sql.Placeholder(f"start{level}"),
        end=sql.Placeholder(f"end{level}"),
    )


_PART: LiteralString = """
    SELECT {level}::int4, dimension, value, string_agg(timestamptz_send(bucket), ''), {numbers}
    FROM {table}
    WHERE project_id = %(project)s AND dimension = ANY(%(dimensions)s)
        AND bucket >= {start} AND bucket < {end}
    GROUP BY dimension, value
"""


# --- releasing ---


def _protect(question: EventQuestion, tables: Tables, k: int) -> Protected:
    """Decide about the last table; each before it is the parent of the next."""

    def grids(dimension: str) -> list[Grid]:
        return [cells.grid for (_, of), cells in tables.items() if of == dimension]

    protected = protect(grids(ALL), k)
    for dimension in _dimensions(question)[1:]:
        if question.of_event and dimension != EVENT:
            protected = protected.series(question.of_event)
        protected = protect(grids(dimension), k, protected)
    return protected


class _Numbers:
    """The numbers of all groups: groups by buckets, without those that are withheld."""

    def __init__(
        self, using: str, question: EventQuestion, protected: Protected, cells: Cells
    ) -> None:
        self._using, self._question, self._span = using, question, question.span
        self._axis = Axis.of(self._span.edges, self._in_hours)
        grid, mask = protected.grids[-1], protected.released[-1]
        self._groups = grid.groups if question.group_by else (question.event or ALL,)
        layout = Layout(self._groups, self._axis)
        released = layout.array(1)
        buckets = np.array([reading.number(bucket) for bucket in grid.buckets], np.int64)
        rows, columns = (index.ravel() for index in np.indices(mask.shape))
        chosen, places = layout.places(grid.groups, rows, buckets[columns])
        released.put(places, mask.ravel()[chosen])
        self._withheld = self._axis.sums(1 - released)
        chosen, places = layout.places(cells.groups, cells.rows, cells.buckets)
        self._sums = {}
        for name in NUMBERS:
            numbers = layout.array(0)
            numbers.put(places, cells.numbers[name][chosen])
            self._sums[name] = self._axis.sums(numbers * released)

    @property
    def _in_hours(self) -> bool:
        return self._span.made_of != self._span.level

    def answer(self, now: Standing) -> Answer:
        """The groups of the page that is asked for."""
        question, sizes = self._question, self._sums["count"].sum(1)
        rows, following = [0], None
        if question.group_by:
            shown = np.flatnonzero(sizes)
            values = [self._groups[row] for row in shown]
            places, following = pages.turn(
                question.page, question.mark, values, sizes[shown].tolist()
            )
            rows = shown[places].tolist()
        return Answer(
            span=self._span,
            standing=now,
            group_by=question.group_by,
            groups=self._page(rows),
            withheld_groups=int((self._withheld.any(1) & (sizes == 0)).sum()),
            withheld_cells=int(self._withheld.sum()),
            numbers=(*TOLD, "withheld"),
            next=following,
        )

    def _page(self, rows: list[int]) -> list[Group]:
        withheld = self._withheld[rows]
        numbers = {name: sums[rows] for name, sums in self._sums.items()}
        untold = dict.fromkeys(NUMBERS, withheld > 0)
        if self._in_hours:
            numbers |= self._united(rows)
            # What is left of a day whose other hours are withheld is told, but not its people: nor
            # those of hours that are older than their sketches.
            for name in NUMBERS:
                untold[name] = untold[name] & (numbers["count"] == 0)
            for name in DISTINCT:
                untold[name] = (withheld > 0) | (numbers[name] < 0)
        columns = {name: _told(numbers[name], untold[name]) for name in TOLD}
        columns["withheld"] = withheld.tolist()
        by_value = bool(self._question.group_by)
        return [
            Group(
                self._groups[row] if by_value else None,
                {name: column[place] for name, column in columns.items()},
            )
            for place, row in enumerate(rows)
        ]

    def _united(self, rows: list[int]) -> dict[str, Whole]:
        """Distinct people and sessions of days or months that consist of hours; -1 where they
        can't be told any more."""
        question, span = self._question, self._span
        united = {name: [[Distinct() for _ in span.starts] for _ in rows] for name in DISTINCT}
        places = {self._groups[row]: place for place, row in enumerate(rows)}
        hours = {
            "project": question.project_id,
            "dimension": _dimensions(question)[-1],
            "values": [*places],
            "start": span.start,
            "end": span.end,
        }
        unknown: list[tuple[int, int]] = []
        shape = len(rows), len(span.starts)
        for value, hour, *sketches in reading.stream(self._using, _SKETCHES, hours):
            bucket = bisect_right(span.edges, hour) - 1
            for name, sketch in zip(DISTINCT, sketches, strict=True):
                if sketch:
                    united[name][places[value]][bucket].unite(sketch)
                else:
                    unknown.append((places[value], bucket))
        found = {
            name: np.array([[one.count for one in line] for line in lines], np.int64).reshape(shape)
            for name, lines in united.items()
        }
        for cell, name in product(unknown, DISTINCT):
            found[name][cell] = -1
        return found


_SKETCHES: LiteralString = """
    SELECT value, bucket, people_sketch, sessions_sketch FROM aggregation_eventhour
    WHERE project_id = %(project)s AND dimension = %(dimension)s AND value = ANY(%(values)s)
        AND bucket >= %(start)s AND bucket < %(end)s
"""


def _told(numbers: Whole, untold: NDArray[np.bool_]) -> list[list[Number]]:
    """The numbers, with None for what isn't told."""
    told = numbers.astype(object)
    told[untold] = None
    lines: list[list[Number]] = told.tolist()
    return lines
