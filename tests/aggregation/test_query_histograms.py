"""Quantiles of many cells at once are those of each alone."""

import struct

import numpy as np
import pytest

from aggregation.quantiles import Quantiles, keys_of
from aggregation.queries import histograms
from aggregation.queries.histograms import Histograms


def sent(values: list[int], code: str, size: int) -> bytes:
    """As `array_send` writes an array."""
    if not values:
        return struct.pack(">iii", 0, 0, 23)
    head = struct.pack(">iiiii", 1, 0, 23, len(values), 1)
    return head + b"".join(struct.pack(f">i{code}", size, value) for value in values)


@pytest.mark.parametrize("most_held", [1, 100, 4_000_000])
def test_cells_are_merged_from_their_rows(monkeypatch: pytest.MonkeyPatch, most_held: int) -> None:
    monkeypatch.setattr(histograms, "_MOST_HELD", most_held)
    random = np.random.default_rng(3)
    cells, rows = 7, 60
    cell_of_row = random.integers(-1, cells - 1, rows)
    alone = [Quantiles() for _ in range(cells)]
    keys, counts = [], []
    for cell in cell_of_row:
        values = random.normal(0, 100, random.integers(0, 20)) * random.integers(0, 2)
        of_row, times = np.unique(keys_of(values), return_counts=True)
        times = times * random.choice([1, 2**40])
        keys.append(of_row.tolist())
        counts.append(times.tolist())
        if cell >= 0 and len(of_row):
            alone[cell].unite(of_row, times)
    packed = Histograms.unpacked(
        np.array([len(row) for row in keys]),
        b"".join(sent(row, "i", 4) for row in keys),
        b"".join(sent(row, "q", 8) for row in counts),
    )
    for q in (0, 0.5, 0.95, 0.99, 1):
        found = packed.quantiles(q, cell_of_row, cells)
        assert found == [one.quantile(q) for one in alone]
    assert found[-1] is None, "no row is of the last cell"
