"""Quantiles of many cells at once, from their packed counts by key. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregation.quantiles import WORD, unpacked, value_of

Whole = NDArray[np.int64]
# Numbers that are held at once: of some cells by all keys.
_MOST_HELD = 4_000_000


@dataclass(frozen=True)
class Histograms:
    """Counts by key of many rows: those of a row after those of the one before."""

    lengths: Whole
    keys: Whole
    counts: Whole

    @classmethod
    def unpacked(cls, sizes: Whole, packed: bytes) -> "Histograms":
        """From so many bytes of each row."""
        return cls(sizes // WORD.itemsize, *unpacked(packed))

    def quantiles(self, q: float, cell_of_row: Whole, cells: int) -> list[float | None]:
        """A quantile of each cell, merged from its rows; a row without a cell has -1."""
        of_cells = np.repeat(cell_of_row, self.lengths)
        chosen = of_cells >= 0
        keys, places = _distinct(self.keys[chosen])
        of_cells, counts = of_cells[chosen], self.counts[chosen]
        found: list[float | None] = [None] * cells
        step = max(1, _MOST_HELD // max(1, len(keys)))
        for first in range(0, cells if len(keys) else 0, step):
            some = (of_cells >= first) & (of_cells < first + step)
            shape = (min(step, cells - first), len(keys))
            at = (of_cells[some] - first) * len(keys) + places[some]
            held = np.bincount(at, counts[some], shape[0] * shape[1]).reshape(shape)
            until = held.cumsum(axis=1)
            ranks = np.floor(q * (until[:, -1:] - 1))
            key_of_cell = (until <= ranks).sum(axis=1)
            for cell in np.flatnonzero(until[:, -1]):
                found[first + cell] = value_of(int(keys[key_of_cell[cell]]))
        return found


def _distinct(numbers: Whole) -> tuple[Whole, Whole]:
    """The numbers there are, ascending, and the place of each among them. They aren't far apart."""
    if not len(numbers):
        return numbers, numbers
    least = numbers.min()
    there = np.zeros(numbers.max() - least + 1, np.bool_)
    there[numbers - least] = True
    return np.flatnonzero(there) + least, (there.cumsum() - 1)[numbers - least]
