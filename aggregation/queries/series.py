"""The series of a metric as they are read: their buckets, and what decides about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb

from aggregation.definitions import NONE, OTHER, TABLES
from aggregation.models import Kind, Level
from aggregation.queries import reading
from aggregation.queries.histograms import Histograms
from aggregation.queries.parameters import MetricQuestion
from aggregation.queries.reading import Whole
from aggregation.queries.spans import HOUR, whole

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
_LONGEST = {Level.HOUR: HOUR, Level.DAY: 24 * HOUR, Level.MONTH: 31 * 24 * HOUR}
Floats = NDArray[np.float64]
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


def read(using: str, question: MetricQuestion) -> Series:
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
