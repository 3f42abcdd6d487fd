"""Hours of measurements from the measurements, and days and months from hours and days.

PostgreSQL groups a slice of the hour's samples by series and hands over each one's, eight bytes a
sample. They are added up here: PostgreSQL refuses a sum that no float holds, and the bucket would
never be made.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from struct import unpack
from typing import Any, LiteralString

import numpy as np
from psycopg import sql

from aggregation import dimensions, slices, streams
from aggregation.definitions import Bucket, below
from aggregation.models import MetricBucket
from aggregation.quantiles import Quantiles, counted, unpacked
from aggregation.sketches import WIDTH
from aggregation.streams import Growth
from aggregation.sums import total
from aggregation.tallies import MOST_COUNT, OTHERS, Name, Tallies, Tally, increase

# Samples of a statement: its snapshot is short, and what it groups fits into memory.
SLICE_SAMPLES = 250_000
# With more series than these the rarest are counted together before all is read. Not sooner: how
# much a counter of theirs grew from one slice to the next isn't known any more.
MOST_HELD = 20_000


def from_raw(bucket: Bucket) -> list[MetricBucket]:
    """The rows of an hour, from its measurements."""
    tallies = Tallies()
    for start, end in slices.cut(bucket, _CUT, SLICE_SAMPLES):
        given = {"project": bucket.project_id, "start": start, "end": end}
        given |= {"width": WIDTH, "most": MOST_COUNT}
        _add(tallies, [_Slice(*row) for row in slices.read(_COUNT, given)])
        tallies.fold(MOST_HELD)
    for grown in streams.grown(bucket):
        _add_grown(tallies, grown)
        tallies.fold(MOST_HELD)
    tallies.fold()
    return tallies.rows(bucket)


def from_below(bucket: Bucket) -> list[MetricBucket]:
    """The rows of a day or a month, from its hours or days."""
    tallies = Tallies()
    # When cumulative counters of a name were counted together. What any of them grew by then is in
    # that, and must not be once more in how much it grew from before to after.
    folded: dict[Name, list[datetime]] = defaultdict(list)
    for row in below(bucket).order_by("bucket").iterator():
        tally = Tally(
            node=row.node,
            tags=row.tags,
            count=row.count,
            sum=row.sum,
            min=row.min,
            max=row.max,
            first=row.first,
            first_at=row.first_at,
            last=row.last,
            last_at=row.last_at,
            increase=row.increase,
        )
        tally.people.unite(bytes(row.people_sketch))
        tally.quantiles = Quantiles(*unpacked(bytes(row.quantiles)))
        name, series = Name(row.name, row.kind, row.cumulative), bytes(row.series)
        if row.cumulative:
            since = tallies.last_at(name, series) or bucket.start
            if any(since <= moment < row.bucket for moment in folded[name]):
                tally.first = tally.first_at = None
            if row.tags == OTHERS:
                folded[name].append(row.bucket)
        tallies.follow(name, series, tally)
    for name, moments in folded.items():
        if moments:
            tallies.forget_last(name, moments[-1])
    tallies.fold()
    return tallies.rows(bucket)


@dataclass(frozen=True, slots=True)
class _Slice:
    """What a slice has of one series. `values` are its samples, of a summary the sums; `places` say
    which came first. Of histograms that came as buckets there are `weights`, and each one's sum."""

    name: str
    kind: str
    cumulative: bool
    node: str | None
    tags: str
    count: int
    min: float | None
    max: float | None
    first_at: datetime
    last_at: datetime
    values: bytes
    places: bytes
    people: bytes | None
    weights: bytes | None
    sums: bytes | None

    @property
    def is_sampled(self) -> bool:
        """Whether there are quantiles of it."""
        return self.kind in ("gauge", "histogram")

    @property
    def tally(self) -> Tally:
        """What it adds up to, but for quantiles."""
        tally = Tally(self.node, _kept(json.loads(self.tags)), count=self.count)
        tally.people.add(self.people or b"")
        values: Sequence[float] = _numbers("d", self.values)
        if self.cumulative or self.kind == "gauge":
            in_order = sorted(zip(_numbers("q", self.places), values, strict=True))
            values = [value for _, value in in_order]
            tally.last, tally.last_at = values[-1], self.last_at
        if self.cumulative:
            tally.first, tally.first_at = values[0], self.first_at
            tally.increase = increase(values)
        else:
            tally.sum = total(values if self.sums is None else _numbers("d", self.sums))
        if self.kind == "summary" or self.weights is not None:
            tally.min, tally.max = self.min, self.max
        elif self.is_sampled:
            tally.min, tally.max = min(values), max(values)
        return tally


def _kept(tags: dict[str, Any]) -> dict[str, Any]:
    """Tags without those that tell persons apart, whether a point names its person or not: what
    such a tag says would stay with the counts, where no erasure finds it. The series stay apart."""
    return {name: value for name, value in tags.items() if not dimensions.telling(name)}


def _add(tallies: Tallies, found: list[_Slice]) -> None:
    """Add what a slice has of each series."""
    plain = _quantiles([one for one in found if one.is_sampled and one.weights is None])
    weighted = _quantiles([one for one in found if one.weights is not None])
    for one in found:
        tally = one.tally
        if one.is_sampled:
            tally.quantiles = next(plain if one.weights is None else weighted)
        name = Name(one.name, one.kind, one.cumulative)
        tallies.follow(name, name.digest(one.node, one.tags), tally)


def _quantiles(found: list[_Slice]) -> Iterator[Quantiles]:
    """Those of series that either all have weights or none."""
    values = np.frombuffer(b"".join(one.values for one in found), ">f8").astype(np.float64)
    sent = b"".join(one.weights or b"" for one in found)
    weights = np.frombuffer(sent, ">i8").astype(np.int64) if sent else None
    return counted(values, [len(one.values) // values.itemsize for one in found], weights)


def _add_grown(tallies: Tallies, grown: list[Growth]) -> None:
    """Add what streams grew by, as the deltas they would have sent."""
    sampled = [one for one in grown if one.values.size]
    quantiles = counted(
        np.concatenate([one.values for one in sampled] or [np.empty(0)]),
        [one.values.size for one in sampled],
        np.concatenate([one.weights for one in sampled] or [np.empty(0, np.int64)]),
    )
    for one in grown:
        tally = Tally(
            one.node,
            _kept(json.loads(one.tags)),
            count=one.count,
            sum=one.sum,
            min=one.min,
            max=one.max,
        )
        tally.people.add((one.person or b"")[:WIDTH])
        if one.values.size:
            tally.quantiles = next(quantiles)
        name = Name(one.name, one.kind, cumulative=False)
        tallies.follow(name, name.digest(one.node, one.tags), tally)


def _numbers(code: str, sent: bytes) -> tuple[Any, ...]:
    """Numbers of eight bytes as PostgreSQL sends them, the most significant byte first."""
    return unpack(f">{len(sent) // 8}{code}", sent)


# Reads on from the start, by the primary key, until there are too many.
_CUT: LiteralString = """
    SELECT occurred_at FROM (
        SELECT occurred_at,
            sum(coalesce(cardinality(samples), 1)) OVER (ORDER BY occurred_at) AS until
        FROM ingest_metricpoint
        WHERE project_id = %(project)s AND occurred_at >= %(start)s AND occurred_at < %(end)s
    ) AS point
    WHERE until > %(most)s AND occurred_at > %(start)s ORDER BY occurred_at LIMIT 1
"""
# Series are told apart by their tags' text, as their digests are.
_COUNT = sql.SQL("""
    WITH point AS (
        SELECT name, kind, cumulative, node, tags::text AS tags, occurred_at, count, sum, min, max,
            substr(subject, 1, %(width)s) AS person,
            row_number() OVER (ORDER BY occurred_at, batch_id, position, part) AS place,
            unnest(coalesce(samples, ARRAY[coalesce(value, sum)])) AS value,
            unnest(weights) AS weight, generate_subscripts(weights, 1) AS nth
        FROM ingest_metricpoint AS raw WHERE started_at IS NULL AND {counted}
    )
    SELECT name, kind, cumulative, node, tags,
        least(sum(coalesce(weight, count, 1)), %(most)s)::int8, min(min), max(max),
        min(occurred_at), max(occurred_at), string_agg(float8send(value), ''),
        string_agg(int8send(place), ''), string_agg(person, ''),
        string_agg(int8send(weight), ''), string_agg(float8send(sum), '') FILTER (WHERE nth = 1)
    FROM point GROUP BY name, kind, cumulative, node, tags, weight IS NULL
""").format(counted=slices.COUNTED)
