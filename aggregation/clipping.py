"""How much of each person counts on a day. Pure.

Of a person count at most so many events; and by name so many names, of each so many events. Which
names those are is decided by chance that only the person, the day and the names have a part in, so
that one person's data changes nothing of what others add to the counts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from aggregation.budgets import Terms

# Persons are gone through in so many parts, so that what sorting takes is little.
PARTS = 16
Numbers = NDArray[np.uint64]
# A name, its persons (16 bytes each) and how many events of it each has; packed, in the same order.
Packed = tuple[str, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Clipped:
    """What persons add up to, each clipped."""

    events: int
    people: int
    names: Mapping[str, int]


class Contributions:
    """What is clipped so far of a day. It comes in pieces, which may share persons and names; their
    order doesn't matter."""

    def __init__(self, terms: Terms, day: date) -> None:
        self._salt = day.isoformat().encode()
        self._parts = [_Part(terms) for _ in range(PARTS)]
        self._names: dict[int, str] = {}

    def add(self, piece: Iterable[Packed]) -> None:
        """Add a piece of the day, in which a name may come once."""
        rows = [np.empty((0, 4), np.uint64)]
        for name, packed, numbers in piece:
            counts = np.frombuffer(numbers, ">i8")
            of = np.empty((len(counts), 4), np.uint64)
            of[:, :2] = np.frombuffer(packed, ">u8").reshape(-1, 2)
            of[:, 2], of[:, 3] = self._number(name), counts
            rows.append(of)
        high, low, names, counts = np.concatenate(rows).T
        of_part = low % PARTS
        for number, part in enumerate(self._parts):
            mine = of_part == number
            part.add(high[mine], low[mine], names[mine], counts[mine])
        kept = np.unique(np.concatenate([part.names for part in self._parts]))
        self._names = {number: self._names[number] for number in kept.tolist()}

    @property
    def clipped(self) -> Clipped:
        """The counts of all that was added."""
        names: Counter[str] = Counter()
        for part in self._parts:
            numbers, places = np.unique(part.names, return_inverse=True)
            sums = np.zeros(len(numbers), np.uint64)
            np.add.at(sums, places, part.of_names)
            for number, count in zip(numbers.tolist(), sums.tolist(), strict=True):
                names[self._names[number]] += count
        return Clipped(
            events=sum(int(part.events.sum()) for part in self._parts),
            people=sum(len(part.events) for part in self._parts),
            names=names,
        )

    def _number(self, name: str) -> int:
        digest = blake2b(name.encode(), digest_size=8, key=self._salt).digest()
        number = int.from_bytes(digest, "big")
        self._names[number] = name
        return number


class _Part:
    """What is clipped of some of the persons; each is two numbers."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        nothing = np.empty(0, np.uint64)
        self._persons: tuple[Numbers, ...] = (nothing, nothing)
        self.events = nothing
        # A person's names are in the order of chance.
        self._by_name: tuple[Numbers, ...] = (nothing, nothing, nothing, nothing)
        self.of_names = nothing

    @property
    def names(self) -> Numbers:
        """Those that count, as often as there are persons of whom they do."""
        return self._by_name[3]

    def add(self, high: Numbers, low: Numbers, names: Numbers, counts: Numbers) -> None:
        """Add what persons have of names."""
        terms = self._terms
        self._persons, self.events = _summed(
            _joined(self._persons, (high, low)),
            np.concatenate([self.events, counts]),
            terms.most_events,
        )
        # Who is left out once has enough before them, and would be left out at the end as well.
        chance = names * (low | np.uint64(1))
        by_name, of_names = _summed(
            _joined(self._by_name, (high, low, chance, names)),
            np.concatenate([self.of_names, counts]),
            terms.most_of_a_name,
        )
        kept = _places(by_name[:2]) < terms.most_names
        self._by_name = tuple(column[kept] for column in by_name)
        self.of_names = of_names[kept]


def _joined(there: tuple[Numbers, ...], new: tuple[Numbers, ...]) -> tuple[Numbers, ...]:
    return tuple(np.concatenate(columns) for columns in zip(there, new, strict=True))


def _summed(
    keys: tuple[Numbers, ...], counts: Numbers, most: int
) -> tuple[tuple[Numbers, ...], Numbers]:
    """The keys in their order, each once, and what is counted of each, so much at most."""
    order = np.lexsort(keys[::-1])
    keys, counts = tuple(key[order] for key in keys), counts[order]
    firsts = np.flatnonzero(_is_new(keys))
    if not len(firsts):
        return keys, counts
    sums = np.minimum(np.add.reduceat(counts, firsts), np.uint64(most))
    return tuple(key[firsts] for key in keys), sums


def _is_new(keys: tuple[Numbers, ...]) -> NDArray[np.bool_]:
    """Where keys, in their order, aren't those of the row before."""
    new = np.zeros(len(keys[0]), np.bool_)
    new[:1] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return new


def _places(keys: tuple[Numbers, ...]) -> NDArray[np.int64]:
    """The place of each row among those that have its keys, which stand together."""
    rows = np.arange(len(keys[0]))
    return rows - np.maximum.accumulate(np.where(_is_new(keys), rows, 0))
