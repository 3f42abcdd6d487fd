"""Hours of measurements from the measurements, and days and months from hours and days.

PostgreSQL groups a slice of the hour's samples by series and hands over each one's, eight bytes a
sample. They are added up here: PostgreSQL refuses a sum that no float holds, and the bucket would
never be made.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import md5
from itertools import pairwise
from struct import unpack
from typing import Any, LiteralString, NamedTuple, TypeVar

import numpy as np
from psycopg import sql

from aggregation import dimensions, slices, streams
from aggregation.definitions import OTHER, TABLES, Bucket, below
from aggregation.models import MetricBucket
from aggregation.quantiles import Quantiles, counted, unpacked
from aggregation.sketches import WIDTH, Distinct
from aggregation.streams import Growth
from aggregation.sums import total

# Samples of a statement: its snapshot is short, and what it groups fits into memory.
SLICE_SAMPLES = 250_000
# Names, and series of a name and kind. Those beyond are counted together, so that totals are right.
# Of cumulative counters a total is a lower bound then: what they grew by while they came to the
# others, or left them, isn't known, and nothing is counted twice.
MOST_NAMES = 1000
MOST_SERIES = 1000
# With more series than these the rarest are counted together before all is read. Not sooner: how
# much a counter of theirs grew from one slice to the next isn't known any more.
MOST_HELD = 20_000

_MOST_COUNT = 2**63 - 1

_OTHERS = {OTHER: True}
_T = TypeVar("_T")


class Name(NamedTuple):
    """Whose series can be added up: a metric's, of one kind."""

    name: str
    kind: str
    cumulative: bool

    def digest(self, node: str | None, tags: str) -> bytes:
        """What tells a series from the others; `tags` as PostgreSQL writes them."""
        text = json.dumps([self.kind, self.cumulative, node]) + tags
        return md5(text.encode(), usedforsecurity=False).digest()

    @property
    def others(self) -> bytes:
        """The series of those that are counted together."""
        return self.digest(None, json.dumps(_OTHERS))


@dataclass(slots=True)
class Tally:
    """What the measurements of a series add up to. None is what its kind doesn't have; a cumulative
    counter lacks `first` or `last` where it was counted with others before or after."""

    node: str | None
    tags: Any
    count: int = 0
    people: Distinct = field(default_factory=Distinct)
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    first: float | None = None
    first_at: datetime | None = None
    last: float | None = None
    last_at: datetime | None = None
    increase: float | None = None
    quantiles: Quantiles = field(default_factory=Quantiles)

    def follow(self, later: "Tally") -> None:
        """Add what was measured later of the same series."""
        if self.last is not None and later.first is not None:
            between = _increase((self.last, later.first))
            self.increase = _either(_added, self.increase, between)
        self.last, self.last_at = later.last, later.last_at
        self._add(later)

    def join(self, other: "Tally") -> None:
        """Add another series: the last of gauges is the latest, of counters there is none."""
        if other.increase is None and other.last_at is not None:
            latest = (other.last_at, other.last)
            if self.last_at is None or (self.last_at, self.last) < latest:
                self.last_at, self.last = latest
        self._add(other)

    def _add(self, other: "Tally") -> None:
        self.count = min(self.count + other.count, _MOST_COUNT)
        self.people.merge(other.people)
        self.sum = _either(_added, self.sum, other.sum)
        self.min = _either(min, self.min, other.min)
        self.max = _either(max, self.max, other.max)
        self.increase = _either(_added, self.increase, other.increase)
        if other.quantiles.keys.size:
            self.quantiles.unite(other.quantiles.keys, other.quantiles.counts)


class Tallies:
    """What each series adds up to, by name; what is beyond the most of a name is `(other)`."""

    def __init__(self) -> None:
        self._of: dict[Name, dict[bytes, Tally]] = defaultdict(dict)
        self._is_folded = False

    def follow(self, name: Name, series: bytes, later: Tally) -> None:
        """Add what was measured of a series later than all that was added before."""
        tallies = self._of[name]
        if series in tallies:
            tallies[series].follow(later)
            return
        if self._is_folded:
            # It may be among the others with what came before.
            later.first = later.first_at = None
        tallies[series] = later

    def last_at(self, name: Name, series: bytes) -> datetime | None:
        """When a series was measured last, as far as that is known."""
        known = self._of[name].get(series)
        return known.last_at if known else None

    def forget_last(self, name: Name, until: datetime) -> None:
        """Forget the last values of a name's series that were measured before."""
        for tally in self._of[name].values():
            if tally.last_at and tally.last_at < until:
                tally.last = tally.last_at = None

    def fold(self, most_held: int = 0) -> None:
        """Add up the rarest names, and series of a name, where there are too many and more are held
        than these."""
        if sum(map(len, self._of.values())) <= most_held:
            return
        for name, tallies in self._of.items():
            others = tallies.pop(name.others, None)
            by_count = sorted(tallies, key=lambda series: (-tallies[series].count, series))
            for series in by_count[MOST_SERIES:]:
                others = others or Tally(None, _OTHERS)
                others.join(tallies.pop(series))
            if others:
                tallies[name.others] = others
                self._is_folded = True
        self._fold_names()

    def _fold_names(self) -> None:
        count: dict[str, int] = defaultdict(int)
        for name, tallies in self._of.items():
            count[name.name] += sum(tally.count for tally in tallies.values())
        count.pop(OTHER, None)
        rarest = {*sorted(count, key=lambda name: (-count[name], name))[MOST_NAMES:]}
        for name in [name for name in self._of if name.name in rarest]:
            other = name._replace(name=OTHER)
            others = self._of[other].setdefault(other.others, Tally(None, _OTHERS))
            for tally in self._of.pop(name).values():
                others.join(tally)
            self._is_folded = True

    def rows(self, bucket: Bucket) -> list[MetricBucket]:
        """As they are stored."""
        table = TABLES[bucket.kind, bucket.level]
        assert issubclass(table, MetricBucket)
        return [
            table(
                project_id=bucket.project_id,
                name=name.name,
                bucket=bucket.start,
                series=series,
                kind=name.kind,
                cumulative=name.cumulative,
                node=tally.node,
                tags=tally.tags,
                count=tally.count,
                people=tally.people.count,
                people_sketch=tally.people.sketch,
                sum=tally.sum,
                min=tally.min,
                max=tally.max,
                first=tally.first,
                first_at=tally.first_at,
                last=tally.last,
                last_at=tally.last_at,
                increase=tally.increase,
                quantiles=tally.quantiles.packed,
            )
            for name, tallies in self._of.items()
            for series, tally in tallies.items()
        ]


def from_raw(bucket: Bucket) -> list[MetricBucket]:
    """The rows of an hour, from its measurements."""
    tallies = Tallies()
    for start, end in slices.cut(bucket, _CUT, SLICE_SAMPLES):
        given = {"project": bucket.project_id, "start": start, "end": end}
        given |= {"width": WIDTH, "most": _MOST_COUNT}
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
            if row.tags == _OTHERS:
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
            tally.increase = _increase(values)
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


def _increase(values: Sequence[float]) -> float:
    """How much a counter grew from the first value to the last. One that fell began anew at 0."""
    return total([b - a if b >= a else b for a, b in pairwise(values)])


def _added(a: float, b: float) -> float:
    return total((a, b))


def _either(merge: Callable[[_T, _T], _T], a: _T | None, b: _T | None) -> _T | None:
    """Both merged, or the one that there is."""
    if a is None or b is None:
        return b if a is None else a
    return merge(a, b)


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
