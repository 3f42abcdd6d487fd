"""Quantiles of many cells at once are those of each alone."""

import numpy as np
import pytest

from aggregation.quantiles import Quantiles, keys_of
from aggregation.queries import histograms
from aggregation.queries.histograms import Histograms


@pytest.mark.parametrize("most_held", [1, 100, 4_000_000])
def test_cells_are_merged_from_their_rows(monkeypatch: pytest.MonkeyPatch, most_held: int) -> None:
    monkeypatch.setattr(histograms, "_MOST_HELD", most_held)
    random = np.random.default_rng(3)
    cells, rows = 7, 60
    cell_of_row = random.integers(-1, cells - 1, rows)
    alone = [Quantiles() for _ in range(cells)]
    packed = []
    for cell in cell_of_row:
        values = random.normal(0, 100, random.integers(0, 20)) * random.integers(0, 2)
        of_row, times = np.unique(keys_of(values), return_counts=True)
        times = times * random.choice([1, 2**40])
        packed.append(Quantiles(of_row, times).packed)
        if cell >= 0 and len(of_row):
            alone[cell].unite(of_row, times)
    read = Histograms.unpacked(np.array([len(row) for row in packed]), b"".join(packed))
    for q in (0, 0.5, 0.95, 0.99, 1):
        found = read.quantiles(q, cell_of_row, cells)
        assert found == [one.quantile(q) for one in alone]
    assert found[-1] is None, "no row is of the last cell"
