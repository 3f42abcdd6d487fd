"""Metrics over time: the series of a name, merged.

Each series is decided about by itself, and what is answered is merged from what is released of
them: nothing that is withheld can be computed from it. Series that are no person's are exempt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import numpy as np
from django.utils import timezone
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb

from aggregation.definitions import NONE, OTHER, TABLES, starting
from aggregation.disclosure import Grid, protect
from aggregation.models import Kind, Level, MetricMonth
from aggregation.queries import pages, reading, standing
from aggregation.queries.answers import Answer, Group, Number, Standing
from aggregation.queries.histograms import Histograms
from aggregation.queries.parameters import MetricQuestion, refuse
from aggregation.queries.reading import Whole
from aggregation.queries.spans import HOUR, whole
from telemetry_site.replica import reader

# Series by buckets that are read; where quantiles are asked for, each has some hundred numbers.
MOST_READ = 500_000
MOST_HISTOGRAMS = 100_000
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
# What is read of each bucket of a series for an aggregate.
_TOTAL: LiteralString = "coalesce(increase, sum)"
_NUMBERS: Mapping[str, LiteralString] = {
    "sum": _TOTAL,
    "rate": _TOTAL,
    "avg": "sum",
    "min": "min",
    "max": "max",
}
_MOST = np.finfo(np.float64).max
_LONGEST = {Level.HOUR: HOUR, Level.DAY: 24 * HOUR, Level.MONTH: 31 * 24 * HOUR}
Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]
# People of a series' buckets, by level.
People = dict[Level, list[tuple[int, int]]]


@dataclass(frozen=True)
class Series:
    """What is read of some series: all buckets of one after those of the one before.

    `values` are what they are grouped by; `people` are those of the series that are persons'.
    """

    values: Sequence[str]
    ends: Sequence[int]
    rows: Whole
    buckets: Whole
    count: Whole
    numbers: Floats
    histograms: Histograms
    people: dict[int, People]

    def cells(self, row: int) -> slice:
        """The places of a series' buckets."""
        return slice(self.ends[row], self.ends[row + 1])


def over_time(question: MetricQuestion) -> Answer:
    """Answer with the groups of a page, by size. Raises ValidationError where that is too much."""
    using = reader()
    now = standing.of(using, question.project_id, Kind.POINTS, question.span.made_of)
    _check_cost(using, question)
    return _Merged(question, _read(using, question), now).answer()


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
    series = rows.values("series").distinct().count()
    length = {Level.HOUR: HOUR, Level.DAY: 24 * HOUR, Level.MONTH: 28 * 24 * HOUR}[span.made_of]
    buckets = (span.end - span.start) // length
    most = MOST_HISTOGRAMS if question.aggregate in QUANTILES else MOST_READ
    if series * buckets > most:
        refuse(
            "from",
            f"must lie closer to `to`: {series} series of {buckets} "
            f"{span.made_of.label.lower()}s each would be merged, and at most {most:,} of these "
            "are. Ask for less time, a longer interval, or some of the nodes or tags",
            "too_costly",
        )


# --- reading ---


def _read(using: str, question: MetricQuestion) -> Series:
    """The rollups of the span, and of persons' series those of the levels above it, in one
    statement: they go together."""
    span = question.span
    start, end = span.start, span.end
    parameters: dict[str, Any] = {
        "project": question.project_id,
        "name": question.name,
        "tags": Jsonb(question.tags),
        "node": question.node,
    }
    parts = []
    for level in (level for level in Level if level >= span.made_of):
        # A bucket is decided about with all of its day or month.
        start, end = whole(Level(min(level + 1, Level.MONTH)), start, end)
        parameters |= {f"start{level}": start, f"end{level}": end}
        parts.append(_part(level, level == span.made_of, question.aggregate))
    answered: list[list[Any]] = []
    above: dict[bytes, People] = {}
    statement = sql.SQL(" UNION ALL ").join(parts)
    for level, series, *columns in reading.rows(using, statement, parameters):
        if level == span.made_of:
            answered.append([series, *columns])
        else:
            buckets, people = (reading.whole(packed).tolist() for packed in columns[3:5])
            above.setdefault(series, {})[Level(level)] = [*zip(buckets, people, strict=True)]
    return _series(question, answered, above)


def _part(level: Level, answered: bool, aggregate: str) -> sql.Composed:
    """Of levels that are only decided with, persons' series are enough, and their people."""
    numbers = _NUMBERS.get(aggregate) if answered else None
    between = numbers == _TOTAL
    columns: list[LiteralString] = [
        "timestamptz_send(bucket)",
        "int8send(people)",
        "int8send(count)" if answered else _NOTHING,
        f"float8send(coalesce({numbers}, 'NaN'))" if numbers else _NOTHING,
        "float8send(coalesce(first, 'NaN'))" if between else _NOTHING,
        "float8send(coalesce(last, 'NaN'))" if between else _NOTHING,
        *(_HISTOGRAMS if answered and aggregate in QUANTILES else [_NOTHING] * 2),
    ]
    return sql.SQL(_PART).format(
        level=sql.Literal(int(level)),
        columns=sql.SQL(", ").join(
            sql.SQL("string_agg({}, '')").format(sql.SQL(column)) for column in columns
        ),
        table=sql.Identifier(TABLES[Kind.POINTS, level]._meta.db_table),
        # How much a counter grew from one bucket to the next is in neither of them.
        start=sql.SQL("%(start{0})s::timestamptz - interval '1 {1}'" if between else "%(start{0})s")
        .format(sql.SQL(str(int(level))), sql.SQL(level.label.lower())),
        end=sql.Placeholder(f"end{level}"),
        series=sql.SQL("" if answered else "AND people > 0"),
    )  # fmt: skip


_NOTHING: LiteralString = "NULL::bytea"
_HISTOGRAMS: list[LiteralString] = [
    "int8send(length(quantiles))",
    "quantiles",
]
_PART: LiteralString = """
    SELECT {level}::int4, series, node, tags, cumulative, {columns}
    FROM {table}
    WHERE project_id = %(project)s AND name = %(name)s AND tags @> %(tags)s
        AND (%(node)s::text IS NULL OR node = %(node)s)
        AND bucket >= {start} AND bucket < {end} {series}
    GROUP BY series, node, tags, cumulative
"""


def _series(
    question: MetricQuestion, answered: list[list[Any]], above: Mapping[bytes, People]
) -> Series:
    columns = list(zip(*answered, strict=True)) or [()] * 12
    ids, nodes, tags, _, *packed = columns
    lengths = [len(buckets) // 8 for buckets in packed[0]]
    joined = [b"".join(part or b"" for part in column) for column in packed]
    buckets, people, count = map(reading.whole, joined[:3])
    numbers, firsts, lasts = map(reading.fractional, joined[3:6])
    rows = np.repeat(np.arange(len(ids)), lengths)
    if len(firsts):
        numbers = numbers + _between(question.span.made_of, rows, buckets, people, firsts, lasts)
    found = Series(
        values=[_value(question.group_by, *of) for of in zip(nodes, tags, strict=True)],
        ends=np.cumsum([0, *lengths]).tolist(),
        rows=rows,
        buckets=buckets,
        count=count,
        numbers=numbers,
        histograms=Histograms.unpacked(reading.whole(joined[6]), joined[7]),
        people={},
    )
    for row, series in enumerate(ids):
        own = found.cells(row)
        if series in above or people[own].any():
            pairs = zip(buckets[own].tolist(), people[own].tolist(), strict=True)
            found.people[row] = above.get(series, {}) | {question.span.made_of: [*pairs]}
            if OTHER in tags[row]:
                found.people[row] = _of_one(found.people[row])
    return found


def _of_one(people: People) -> People:
    """As if they were one person's, and so withheld: a day's rarest series are series of their own
    in its hours, where some are released and others aren't; the rest of the day would be theirs."""
    return {
        level: [(bucket, min(number, 1)) for bucket, number in cells]
        for level, cells in people.items()
    }


def _between(
    level: Level, rows: Whole, buckets: Whole, people: Whole, firsts: Floats, lasts: Floats
) -> Floats:
    """How much machines' counters grew from the bucket before to each one; one that fell began
    anew at 0."""
    order = np.lexsort((buckets, rows))
    before, after = order[:-1], order[1:]
    follows = (rows[before] == rows[after]) & (people[before] == 0) & (people[after] == 0)
    follows &= buckets[after] - buckets[before] <= reading.microseconds(_LONGEST[level])
    with np.errstate(over="ignore"):
        grown = firsts[after] - lasts[before]
    grown = np.where(grown < 0, firsts[after], grown)
    between = np.zeros(len(rows))
    between[after] = np.where(follows & ~np.isnan(grown), grown, 0)
    return between


def _value(group_by: str, node: str | None, tags: dict[str, Any]) -> str:
    """What a series is grouped by."""
    if OTHER in tags:
        return OTHER
    value = node if group_by == "node" else tags.get(group_by)
    return NONE if value is None else str(value)


# --- releasing ---


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

    def __init__(self, question: MetricQuestion, series: Series, now: Standing) -> None:
        self._question, self._series, self._now = question, series, now
        span = question.span
        self._groups = sorted({*series.values}) if question.group_by else [""]
        self._edges = np.array([reading.number(edge) for edge in span.edges])
        self._shape = (len(self._groups), len(span.starts))
        lines = {group: line for line, group in enumerate(self._groups)}
        line_of_row = [lines[value] if question.group_by else 0 for value in series.values]
        self._withheld = np.zeros(self._shape, np.int64)
        self._cells = self._places(series.buckets)
        since, _ = whole(Level(min(span.made_of + 1, Level.MONTH)), span.start, span.end)
        for row, people in series.people.items():
            withheld = np.array(_withheld(people, span.made_of, since, now.threshold), np.int64)
            own = series.cells(row)
            self._cells[own][np.isin(series.buckets[own], withheld)] = -1
            places = self._places(withheld)
            np.add.at(self._withheld[line_of_row[row]], places[places >= 0], 1)
        told = self._cells >= 0
        rows = np.array(line_of_row, np.int64)[series.rows]
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
        aggregate, series, told = self._question.aggregate, self._series, self._cells >= 0
        count = self._added(series.count, told)
        if aggregate == "count":
            untold = (count == 0) & (self._withheld > 0)
            return _told(count[rows], untold[rows], int)
        told &= ~np.isnan(series.numbers)
        known = self._added(series.count, told)
        if aggregate in ("min", "max"):
            return _told(self._extreme(aggregate, told)[rows], (known == 0)[rows])
        numbers = self._added(series.numbers, told)
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
