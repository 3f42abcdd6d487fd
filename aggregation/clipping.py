"""How much of each person counts on a day. Pure.

Of a person count at most so many events; and by name so many names, of each so many events. Which
names those are is decided by chance that only the person, the day and the names have a part in, so
that one person's data changes nothing of what others add to the counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from aggregation.budgets import Terms

# Bytes of a person: a keyed hash.
WIDTH = 16
Numbers = NDArray[np.uint64]
# A name, its persons and how many events of it each of them has; packed, in the same order.
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
        self._terms, self._salt = terms, day.isoformat().encode()
        nothing = np.empty(0, np.uint64)
        # Two numbers are a person. By name they are in the order of chance.
        self._persons: tuple[Numbers, ...] = (nothing, nothing)
        self._events = nothing
        self._by_name: tuple[Numbers, ...] = (nothing, nothing, nothing, nothing)
        self._of_names = nothing
        self._names: dict[int, str] = {}

    def add(self, piece: Iterable[Packed]) -> None:
        """Add a piece of the day, in which a name may come once."""
        persons, names, counts = [self._nobody()], [], [np.empty(0, np.uint64)]
        for name, packed, numbers in piece:
            persons.append(np.frombuffer(packed, ">u8").astype(np.uint64).reshape(-1, 2))
            names += [self._number(name)] * len(persons[-1])
            counts.append(np.frombuffer(numbers, ">i8").astype(np.uint64))
        high, low = np.concatenate(persons).T
        self._add(high, low, np.array(names, np.uint64), np.concatenate(counts))

    @property
    def clipped(self) -> Clipped:
        """The counts of all that was added."""
        names, places = np.unique(self._by_name[3], return_inverse=True)
        sums = np.zeros(len(names), np.uint64)
        np.add.at(sums, places, self._of_names)
        return Clipped(
            events=int(self._events.sum()),
            people=len(self._events),
            names={
                self._names[name]: count
                for name, count in zip(names.tolist(), sums.tolist(), strict=True)
            },
        )

    @staticmethod
    def _nobody() -> Numbers:
        return np.empty((0, 2), np.uint64)

    def _number(self, name: str) -> int:
        digest = blake2b(name.encode(), digest_size=8, key=self._salt).digest()
        number = int.from_bytes(digest, "big")
        self._names[number] = name
        return number

    def _add(self, high: Numbers, low: Numbers, names: Numbers, counts: Numbers) -> None:
        terms = self._terms
        self._persons, self._events = _summed(
            (_joined(self._persons[0], high), _joined(self._persons[1], low)),
            _joined(self._events, counts),
            terms.most_events,
        )
        # Who is left out once has enough before them, and would be left out at the end as well.
        chance = names * (low | np.uint64(1))
        keys = zip(self._by_name, (high, low, chance, names), strict=True)
        by_name, of_names = _summed(
            tuple(_joined(there, new) for there, new in keys),
            _joined(self._of_names, counts),
            terms.most_of_a_name,
        )
        kept = _places(by_name[:2]) < terms.most_names
        high, low, chance, names = (column[kept] for column in by_name)
        self._by_name, self._of_names = (high, low, chance, names), of_names[kept]
        self._names = {number: self._names[number] for number in np.unique(names).tolist()}


def _joined(there: Numbers, new: Numbers) -> Numbers:
    return np.concatenate([there, new])


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
