"""What cumulative streams grew by within an hour: the deltas that they stand for.

A stream is what one sender counts of a series since one start, at which it was 0. Whoever begins
anew says another start. So of all that came of it in an hour what it was last is enough, and what
it was before: last in the hour before; 0 if it started since, or if its sender has been heard
without it; else what it was first. What it grew by while nothing came of it for more than an hour
is in no hour.

Many SDKs have one start for all that they count, and tags may be alike once they are scrubbed: what
came of a stream at one moment, in one batch, is added up.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import groupby
from operator import add, attrgetter
from typing import Any, LiteralString
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from aggregation import slices
from aggregation.definitions import Bucket
from aggregation.sums import total

# Points of a statement: streams are taken in so many parts that each has about as many.
MOST_POINTS = 250_000
# What is longer ago isn't looked for. Storing marks one hour more for its sake.
_BEFORE = timedelta(hours=1)
# What a sender says at once has times so far apart: a collector looks at one thing of a host after
# the other. What begins so soon after its sender was heard for the first time is taken as old.
_AT_ONCE = timedelta(seconds=5)
# More than the logarithm of any float's inverse.
_BEYOND = 800.0

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Growth:
    """What a stream grew by. Of a histogram `values` ascend, each of so many measurements; of a
    counter `count` are its points."""

    name: str
    kind: str
    node: str | None
    tags: str
    person: bytes | None
    count: int
    sum: float
    min: float | None = None
    max: float | None = None
    values: Floats = field(default_factory=lambda: np.empty(0))
    weights: Counts = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class _Point:
    """A point of the first or last moment of its stream, in the hour or (not `here`) before it.
    `points` are those of its stream there; of its sender something came at `heard_at`."""

    node: str | None
    started_at: datetime
    name: str
    kind: str
    tags: str
    subject: bytes | None
    here: bool
    occurred_at: datetime
    batch_id: UUID
    heard_at: datetime
    points: int
    value: float
    samples: list[float]
    weights: list[int]
    count: int
    sum: float
    min: float | None
    max: float | None

    @property
    def zero(self) -> "_Point":
        """What it was at its start."""
        return replace(
            self, value=0.0, samples=[], weights=[], count=0, sum=0.0, min=None, max=None
        )

    def __add__(self, other: "_Point") -> "_Point":
        counts: dict[float, int] = defaultdict(int)
        for point in (self, other):
            for sample, weight in zip(point.samples, point.weights, strict=True):
                counts[sample] += weight
        samples = sorted(counts)
        return replace(
            self,
            value=total((self.value, other.value)),
            samples=samples,
            weights=[counts[sample] for sample in samples],
            count=self.count + other.count,
            sum=total((self.sum, other.sum)),
            min=min((n for n in (self.min, other.min) if n is not None), default=None),
            max=max((n for n in (self.max, other.max) if n is not None), default=None),
        )


_STREAM = attrgetter("node", "started_at", "name", "kind", "tags", "subject")


def grown(bucket: Bucket) -> Iterator[list[Growth]]:
    """What each stream of an hour grew by, in parts that fit into memory."""
    since = bucket.start - _BEFORE
    given: dict[str, Any] = {
        "project": bucket.project_id,
        "start": since,
        "hour": bucket.start,
        "end": bucket.end,
    }
    ((size, here),) = slices.read(_SIZE, given)
    parts = 1 + size // MOST_POINTS if here else 0
    for part in range(parts):
        found = (_Point(*row) for row in slices.read(_ENDS, given | {"parts": parts, "part": part}))
        streams = ([*points] for _, points in groupby(found, _STREAM))
        yield [_growth(points, since) for points in streams if points[-1].here]


def _growth(points: list[_Point], since: datetime) -> Growth:
    """What a stream grew by to the last of its moments."""
    last = _at(points[-1].occurred_at, points)
    first = points[0]
    was_heard = first.occurred_at - first.heard_at > _AT_ONCE
    if first.here and (first.started_at >= since or was_heard):
        before = last.zero
    else:
        before = _at(first.occurred_at, points)
    if last.value < before.value or last.count < before.count:
        # It began anew and didn't say so.
        before = last.zero
    told = (last.name, last.kind, last.node, last.tags, last.subject)
    if last.kind == "counter":
        return Growth(*told, last.points, total((last.value, -before.value)))
    count = last.count - before.count
    if not count:
        return Growth(*told, 0, 0.0)
    summed, (least, most) = total((last.sum, -before.sum)), _new_extremes(before, last)
    if last.kind == "summary":
        return Growth(*told, count, summed, least, most)
    values, weights = _distribution(before, last)
    least = float(values[0]) if least is None else least
    most = float(values[-1]) if most is None else most
    return Growth(*told, count, summed, least, most, values, weights)


def _at(moment: datetime, points: list[_Point]) -> _Point:
    """What a stream was at a moment; what came of it in two batches is said twice."""
    there = [point for point in points if point.occurred_at == moment]
    batch = there[-1].batch_id
    return reduce(add, (point for point in there if point.batch_id == batch))


def _new_extremes(before: _Point, last: _Point) -> tuple[float | None, float | None]:
    """Least and most of what was measured in between, as far as they are new."""
    if before.min is None or before.max is None or last.min is None or last.max is None:
        return last.min, last.max
    return (
        last.min if last.min < before.min else None,
        last.max if last.max > before.max else None,
    )


def _distribution(before: _Point, last: _Point) -> tuple[Floats, Counts]:
    """A histogram's values, and how many measurements each has got more.

    An exponential histogram's buckets become wider now and then: what was in one is in the one
    whose middle is nearest then. Where no bucket has got more they aren't the same any more.
    """
    values, weights = np.array(last.samples), np.array(last.weights, np.int64)
    if before.samples:
        places = _places(values)
        nearest = np.searchsorted((places[1:] + places[:-1]) / 2, _places(before.samples))
        np.subtract.at(weights, nearest, np.array(before.weights, np.int64))
    more = weights > 0
    if not more.any():
        more, weights = np.ones_like(more), np.array(last.weights, np.int64)
    if last.min is not None and last.max is not None:
        values = values.clip(last.min, last.max)
    return values[more], weights[more]


def _places(values: Any) -> Floats:
    """Where values lie on a line on which buckets of one scale are equally wide."""
    sizes = np.abs(values)
    zero = sizes == 0
    logarithms = np.log(np.where(zero, 1, sizes))
    found: Floats = np.where(zero, 0, np.copysign(logarithms + _BEYOND, values))
    return found


_CUMULATIVE = sql.SQL("FROM ingest_metricpoint AS raw WHERE started_at IS NOT NULL AND {}").format(
    slices.COUNTED
)
_SIZE = sql.SQL("SELECT count(*), count(*) FILTER (WHERE occurred_at >= %(hour)s) {}").format(
    _CUMULATIVE
)
# The first and last moments of each stream, in the hour and before it, in their order.
_ENDS_OF: LiteralString = """
    WITH point AS (
        SELECT node, started_at, name, kind, tags::text AS tags, subject,
            occurred_at >= %(hour)s AS here, occurred_at, batch_id, position, part,
            coalesce(value, 0) AS value, coalesce(samples, '{{}}') AS samples,
            coalesce(weights, '{{}}') AS weights, coalesce(count, 0) AS count,
            coalesce(sum, 0) AS sum, min, max,
            min(occurred_at) OVER (PARTITION BY node, started_at) AS heard_at,
            min(occurred_at) OVER stream AS first_at, max(occurred_at) OVER stream AS last_at,
            count(*) OVER stream AS points
        {cumulative}
            AND (hash_record((node, started_at)) & 1048575) %% %(parts)s = %(part)s
        WINDOW stream AS (
            PARTITION BY node, started_at, name, kind, tags::text, subject,
                occurred_at >= %(hour)s
        )
    )
    SELECT node, started_at, name, kind, tags, subject, here, occurred_at, batch_id, heard_at,
        points, value, samples, weights, count, sum, min, max
    FROM point WHERE occurred_at = last_at OR here AND occurred_at = first_at
    ORDER BY node, started_at, name, kind, tags, subject, occurred_at, batch_id, position, part
"""
_ENDS = sql.SQL(_ENDS_OF).format(cumulative=_CUMULATIVE)
