"""Hours of events from the events, and days and months from hours and days.

PostgreSQL counts: a slice of the hour's events is first reduced to who did what how often, and that
is counted by each dimension in one pass. The distinct people of each come as their hashes, which go
into sketches here.
"""

from dataclasses import dataclass, field
from typing import Any, LiteralString

from psycopg import sql

from aggregation import slices
from aggregation.definitions import (
    ALL,
    EVENT,
    MOST_EVENTS,
    MOST_VALUES,
    NONE,
    OTHER,
    TABLES,
    VALUE_LENGTH,
    Bucket,
    below,
)
from aggregation.models import Dimension, EventBucket
from aggregation.sketches import WIDTH, Distinct

# Events of a statement: its snapshot is short, and what it groups fits into memory.
SLICE_EVENTS = 250_000


@dataclass(slots=True)
class Tally:
    """What is counted of one value."""

    count: int = 0
    bytes: int = 0
    people: Distinct = field(default_factory=Distinct)
    sessions: Distinct = field(default_factory=Distinct)

    def add(self, row: EventBucket) -> None:
        """Add what is stored of another bucket, or of another value."""
        self.count += row.count
        self.bytes += row.bytes
        self.people.unite(bytes(row.people_sketch))
        self.sessions.unite(bytes(row.sessions_sketch))

    @property
    def columns(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "count": self.count,
            "bytes": self.bytes,
            "people": self.people.count,
            "sessions": self.sessions.count,
            "people_sketch": self.people.sketch,
            "sessions_sketch": self.sessions.sketch,
        }

    def merge(self, other: "Tally") -> None:
        self.count += other.count
        self.bytes += other.bytes
        self.people.merge(other.people)
        self.sessions.merge(other.sessions)


class Tallies:
    """What is counted of each dimension's values; what is beyond their most is `(other)`."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Tally]] = {}

    def of(self, dimension: str, value: str) -> Tally:
        """What is counted of a value, to be added to."""
        return self._of.setdefault(dimension, {}).setdefault(value, Tally())

    def fold(self) -> None:
        """Count the rarest values of a dimension that has too many together."""
        for dimension, tallies in self._of.items():
            most = MOST_EVENTS if dimension == EVENT else MOST_VALUES
            if len(tallies.keys() - {OTHER}) <= most:
                continue
            other = tallies.pop(OTHER, None) or Tally()
            by_count = sorted(tallies, key=lambda value: (-tallies[value].count, value))
            for value in by_count[most:]:
                other.merge(tallies.pop(value))
            tallies[OTHER] = other

    def rows(self, bucket: Bucket) -> list[EventBucket]:
        """As they are stored."""
        table = TABLES[bucket.kind, bucket.level]
        assert issubclass(table, EventBucket)
        return [
            table(
                project_id=bucket.project_id,
                dimension=dimension,
                bucket=bucket.start,
                value=value,
                **tally.columns,
            )
            for dimension, tallies in self._of.items()
            for value, tally in tallies.items()
        ]


def from_raw(bucket: Bucket) -> list[EventBucket]:
    """The rows of an hour, from its events."""
    dimensions = list(Dimension.objects.filter(project_id=bucket.project_id).order_by("pk"))
    statement, names = _statement(dimensions), _names(dimensions)
    tallies = Tallies()
    for start, end in slices.cut(bucket, CUT, SLICE_EVENTS):
        given = {"project": bucket.project_id, "start": start, "end": end}
        for mask, value, count, size, people, sessions in slices.read(statement, given):
            # Of a slice without events there is a total, and of events that a dimension isn't of
            # a count by none of its values.
            if count and (value is not None or names[mask] == ALL):
                tally = tallies.of(names[mask], value or "")
                tally.count += count
                tally.bytes += size
                tally.people.add(people or b"")
                tally.sessions.add(sessions or b"")
        tallies.fold()
    return tallies.rows(bucket)


def _names(dimensions: list[Dimension]) -> dict[int, str]:
    """Which dimension a row is of, by what GROUPING says."""
    names = [EVENT, *(dimension.name for dimension in dimensions)]
    every = 2 ** len(names) - 1
    return {every: ALL} | {every ^ (1 << n): name for n, name in enumerate(reversed(names))}


def from_below(bucket: Bucket) -> list[EventBucket]:
    """The rows of a day or a month, from its hours or days."""
    tallies = Tallies()
    for row in below(bucket).iterator():
        tallies.of(row.dimension, row.value).add(row)
    tallies.fold()
    return tallies.rows(bucket)


# By the primary key, in its order.
CUT: LiteralString = """
    SELECT occurred_at FROM (
        SELECT occurred_at FROM ingest_event
        WHERE project_id = %(project)s AND occurred_at >= %(start)s AND occurred_at < %(end)s
        ORDER BY occurred_at OFFSET %(most)s
    ) AS behind WHERE occurred_at > %(start)s ORDER BY occurred_at LIMIT 1
"""
# Each row of the second step is of one dimension: GROUPING has a bit for each that it isn't of.
_COUNT: LiteralString = """
    WITH done AS (
        SELECT {columns}, substr(coalesce(subject, session), 1, {width}) AS person,
            substr(session, 1, {width}) AS sitting, count(*) AS count,
            sum(pg_column_size(properties) + octet_length(name)
                + coalesce(octet_length(message), 0)) AS size
        FROM ingest_event AS raw WHERE {counted}
        GROUP BY {numbers}
    )
    SELECT GROUPING ({names}), coalesce({names}), sum(count)::int8, sum(size)::int8,
        string_agg(person, ''), string_agg(sitting, '')
    FROM done GROUP BY GROUPING SETS ((), {sets})
"""


def _statement(dimensions: list[Dimension]) -> sql.Composed:
    """What counts a slice by everything, by event, and by these dimensions."""
    names = [sql.Identifier(f"d{number}") for number in range(len(dimensions) + 1)]
    values = [sql.SQL("name"), *map(_value, dimensions)]
    columns = [
        sql.SQL("{} AS {}").format(value, name) for value, name in zip(values, names, strict=True)
    ]
    return sql.SQL(_COUNT).format(
        counted=slices.COUNTED,
        columns=sql.SQL(", ").join(columns),
        width=sql.Literal(WIDTH),
        numbers=sql.SQL(", ").join(sql.Literal(n) for n in range(1, len(names) + 3)),
        names=sql.SQL(", ").join(names),
        sets=sql.SQL(", ").join(sql.SQL("({})").format(name) for name in names),
    )


def _value(dimension: Dimension) -> sql.Composable:
    """An event's value of a dimension; NULL for events that the dimension isn't of."""
    column, *path = dimension.path.split(".")
    found: sql.Composable = sql.Identifier(column)
    if path:
        found = sql.SQL("properties #>> {}").format(sql.Literal(path))
    value = sql.SQL("coalesce(nullif(left({}, {}), ''), {})").format(
        found, sql.Literal(VALUE_LENGTH), sql.Literal(NONE)
    )
    if not dimension.event:
        return value
    return sql.SQL("CASE WHEN name = {} THEN {} END").format(sql.Literal(dimension.event), value)
