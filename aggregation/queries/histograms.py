"""Quantiles of many cells at once, from their packed counts by key. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregation.quantiles import value_of

Whole = NDArray[np.int64]
# PostgreSQL's arrays in binary, in words of four bytes: five before the values (three where there
# are none), and before each value its size.
_HEAD, _HEAD_OF_NONE = 5, 3
# Numbers that are held at once: of some cells by all keys.
_MOST_HELD = 4_000_000


@dataclass(frozen=True)
class Histograms:
    """Counts by key of many rows: those of a row after those of the one before."""

    lengths: Whole
    keys: Whole
    counts: Whole

    @classmethod
    def unpacked(cls, lengths: Whole, keys: bytes, counts: bytes) -> "Histograms":
        """From int4[] and int8[] of so many rows, as `array_send` writes them."""
        of_keys = _words(keys)[_places(lengths, 2) + 1]
        words, places = _words(counts), _places(lengths, 3)
        return cls(lengths, of_keys, (words[places + 1] << 32) | (words[places + 2] & 0xFFFFFFFF))

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


def _words(packed: bytes) -> Whole:
    return np.frombuffer(packed, ">i4").astype(np.int64)


def _places(lengths: Whole, size: int) -> Whole:
    """The word at which each value begins, in arrays whose values take `size` words."""
    rows = np.where(lengths > 0, _HEAD + size * lengths, _HEAD_OF_NONE)
    firsts = np.cumsum(rows) - rows + _HEAD
    nth = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places: Whole = np.repeat(firsts, lengths) + size * nth
    return places
