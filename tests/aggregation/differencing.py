"""Tables made of single events, and an attacker who has every number that was released of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import combinations, product

import numpy as np

from aggregation.disclosure import Grid, Protected, protect

Cell = tuple[int, str, datetime]  # depth, group (TOTAL of the parent), bucket
Leaf = tuple[str, datetime]  # group, hour
TOTAL = ""


def hour_of(day: datetime, hour: int) -> datetime:
    return day.replace(hour=hour)


def bucket(depth: int, hour: datetime) -> datetime:
    """The month, day or hour (by depth) that an hour lies in."""
    return (hour.replace(day=1, hour=0), hour.replace(hour=0), hour)[depth]


@dataclass(frozen=True)
class Table:
    """Who was seen in which group at which hour."""

    people: dict[Leaf, frozenset[int]]

    def seen(self, cell: Cell) -> frozenset[int] | None:
        """Whom a cell counts; None where nothing happened."""
        depth, group, at = cell
        found = [
            people
            for (name, hour), people in self.people.items()
            if group in (TOTAL, name) and bucket(depth, hour) == at
        ]
        return frozenset().union(*found) if found else None

    def grids(self, groups: Iterable[str], depths: int = 3) -> list[Grid]:
        rows: list[list[tuple[datetime, str, int]]] = [[] for _ in range(depths)]
        for depth in range(depths):
            buckets = {bucket(depth, hour) for _, hour in self.people}
            for group, at in product(groups, buckets):
                people = self.seen((depth, group, at))
                if people is not None:
                    rows[depth].append((at, group, len(people)))
        return [Grid.of(level) for level in rows]

    @property
    def groups(self) -> list[str]:
        return sorted({group for group, _ in self.people})


def released(protected: Protected) -> dict[Cell, bool]:
    return {
        (depth, group, at): bool(mask[row, column])
        for depth, (grid, mask) in enumerate(zip(protected.grids, protected.released, strict=True))
        for row, group in enumerate(grid.groups)
        for column, at in enumerate(grid.buckets)
    }


class Attacker:
    """Linear algebra over all released numbers of a table and its parent, and all known zeros."""

    def __init__(self, table: Table, k: int) -> None:
        self.table, self.k = table, k
        total = protect(table.grids([TOTAL]), k)
        self.mask = released(total) | released(protect(table.grids(table.groups), k, total))
        self.leaves = list(product(table.groups, sorted({hour for _, hour in table.people})))

    def tells(self, cell: Cell) -> bool:
        """Whether a cell is released, or known to be empty."""
        return self.mask.get(cell, True)

    def covers(self, cell: Cell) -> np.ndarray:
        depth, group, at = cell
        return np.array(
            [group in (TOTAL, name) and bucket(depth, hour) == at for name, hour in self.leaves],
            float,
        )

    @cached_property
    def cells(self) -> list[Cell]:
        hours = {hour for _, hour in self.leaves}
        return sorted(
            {
                (depth, group, bucket(depth, hour))
                for depth in range(3)
                for group in (TOTAL, *self.table.groups)
                for hour in hours
            }
        )

    @cached_property
    def withheld(self) -> list[Cell]:
        """The cells where something happened and that aren't released."""
        return [
            cell
            for cell in self.cells
            if not self.tells(cell) and self.table.seen(cell) is not None
        ]

    @cached_property
    def known(self) -> np.ndarray:
        """An orthonormal basis of what can be computed, as sums of leaves."""
        equations = np.array([self.covers(cell) for cell in self.cells if self.tells(cell)])
        if not len(equations):
            return np.zeros((0, len(self.leaves)))
        _, sizes, rows = np.linalg.svd(equations, full_matrices=False)
        return rows[sizes > 1e-9]

    def computes(self, sums: np.ndarray) -> bool:
        rest = sums - self.known.T @ (self.known @ sums)
        return float(np.abs(rest).max()) < 1e-9

    def exposed(self) -> list[Cell]:
        """The withheld cells that can be computed."""
        return [cell for cell in self.withheld if self.computes(self.covers(cell))]

    def exposed_few(self) -> list[tuple[int, ...]]:
        """Sets of fewer than k people, about whom alone some sum can be computed."""
        seen = [self.table.people.get(leaf, frozenset()) for leaf in self.leaves]
        everybody = sorted(frozenset().union(*seen))
        found = []
        for few in combinations(everybody, min(self.k - 1, len(everybody))):
            theirs = np.array([people <= set(few) for people in seen])
            if self._has_sum_within(theirs, np.array([bool(people) for people in seen])):
                found.append(few)
        return found

    def _has_sum_within(self, theirs: np.ndarray, filled: np.ndarray) -> bool:
        """Whether a sum, without anything subtracted, of these leaves alone can be computed."""
        if not len(self.known) or not (theirs & filled).any():
            return False
        # Combinations of what is known that have nothing outside of `theirs`.
        _, sizes, rows = np.linalg.svd(self.known[:, ~theirs].T, full_matrices=True)
        sums = rows[int((sizes > 1e-9).sum()) :] @ self.known
        if not len(sums):
            return False
        # Projected in turns on these and on what is nowhere negative, a vector ends in both; and
        # not at zero if there is a sum at all: its scalar product with that never shrinks.
        vector = (theirs & filled).astype(float)
        for _ in range(300):
            vector = np.maximum(sums.T @ (sums @ vector), 0)
        return float(np.abs(vector).max()) > 1e-3
