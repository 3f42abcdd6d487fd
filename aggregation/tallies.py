"""What the measurements of series add up to, and of too many the rarest together."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import md5
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from aggregation.definitions import OTHER, TABLES, Bucket
from aggregation.models import MetricBucket
from aggregation.quantiles import Quantiles
from aggregation.sketches import Distinct
from aggregation.sums import total

# Names, and series of a name and kind. Those beyond are counted together, so that totals are right.
# Of cumulative counters a total is a lower bound then: what they grew by while they came to the
# others, or left them, isn't known, and nothing is counted twice.
MOST_NAMES = 1000
MOST_SERIES = 1000

MOST_COUNT = 2**63 - 1
OTHERS = {OTHER: True}

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
        return self.digest(None, json.dumps(OTHERS))


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
            between = increase((self.last, later.first))
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
        self.count = min(self.count + other.count, MOST_COUNT)
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
                others = others or Tally(None, OTHERS)
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
            others = self._of[other].setdefault(other.others, Tally(None, OTHERS))
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


def increase(values: Sequence[float]) -> float:
    """How much a counter grew from the first value to the last. One that fell began anew at 0."""
    return total([b - a if b >= a else b for a, b in pairwise(values)])


def _added(a: float, b: float) -> float:
    return total((a, b))


def _either(merge: Callable[[_T, _T], _T], a: _T | None, b: _T | None) -> _T | None:
    """Both merged, or the one that there is."""
    if a is None or b is None:
        return b if a is None else a
    return merge(a, b)
