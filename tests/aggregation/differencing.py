"""Tables made of single events, and an attacker who has every number that was released of them."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import combinations, product

import numpy as np

from aggregation.disclosure import Grid, Protected, protect

TOLERANCE = 1e-9
ROUNDS, ENOUGH = 500, 1e-3

# Series have names of one letter, but for the total of everything.
TOTAL = ""
Cell = tuple[int, str, datetime]  # depth, series, bucket
Leaf = tuple[str, datetime]  # all series that events count in, hour


def hour_of(day: datetime, hour: int) -> datetime:
    return day.replace(hour=hour)


def bucket(depth: int, hour: datetime) -> datetime:
    """The month, day or hour (by depth) that an hour lies in."""
    return (hour.replace(day=1, hour=0), hour.replace(hour=0), hour)[depth]


@dataclass(frozen=True)
class Table:
    """Who was seen in which series at which hour, and how series are made of others."""

    people: dict[Leaf, frozenset[int]]
    # What events there can be: which series one counts in.
    kinds: tuple[str, ...]
    # Of each table the parent and the groups.
    tables: tuple[tuple[str, str], ...]

    def seen(self, cell: Cell) -> frozenset[int] | None:
        """Whom a cell counts; None where nothing happened."""
        depth, group, at = cell
        found = [
            people
            for (series, hour), people in self.people.items()
            if group in series and bucket(depth, hour) == at
        ]
        return frozenset().union(*found) if found else None

    def grids(self, groups: str, depths: int = 3) -> list[Grid]:
        rows: list[list[tuple[datetime, str, int]]] = [[] for _ in range(depths)]
        for depth in range(depths):
            buckets = {bucket(depth, hour) for _, hour in self.people}
            for group, at in product(groups or [TOTAL], buckets):
                people = self.seen((depth, group, at))
                if people is not None:
                    rows[depth].append((at, group, len(people)))
        return [Grid.of(level) for level in rows]

    @property
    def series(self) -> list[str]:
        return [TOTAL, *(group for _, groups in self.tables for group in groups)]


def released(protected: Protected) -> dict[Cell, bool]:
    return {
        (depth, group, at): bool(mask[row, column])
        for depth, (grid, mask) in enumerate(zip(protected.grids, protected.released, strict=True))
        for row, group in enumerate(grid.groups)
        for column, at in enumerate(grid.buckets)
    }


class Attacker:
    """Has all released numbers of all tables, and linear algebra; knows that no count is negative.

    What is computed are sums of *leaves*, the events of one kind in one hour.
    """

    def __init__(self, table: Table, k: int) -> None:
        self.table, self.k = table, k
        total = protect(table.grids(TOTAL), k)
        parents = {TOTAL: total.series(TOTAL)}
        self.mask = released(total)
        for parent, groups in table.tables:
            protected = protect(table.grids(groups), k, parents[parent])
            parents |= {group: protected.series(group) for group in groups}
            self.mask |= released(protected)
        hours = {hour for _, hour in table.people}
        self.leaves = list(product(table.kinds, sorted(hours)))
        self.filled = np.array([leaf in table.people for leaf in self.leaves], bool)
        self.seen = [table.people.get(leaf, frozenset()) for leaf in self.leaves]
        self.known = _basis([self.covers(cell) for cell in self.cells if self.tells(cell)])
        while (empty := self._sum_within(~self.filled, ~self.filled)) is not None:
            # A sum of zero has only zeros: these leaves are nothing to reckon with any more.
            keep = empty < ENOUGH
            self.leaves = [leaf for leaf, kept in zip(self.leaves, keep, strict=True) if kept]
            self.seen = [people for people, kept in zip(self.seen, keep, strict=True) if kept]
            self.filled, self.known = self.filled[keep], _basis(self.known[:, keep])

    def tells(self, cell: Cell) -> bool:
        """Whether a cell is released, or known to be empty."""
        return self.mask.get(cell, True)

    def covers(self, cell: Cell) -> np.ndarray:
        depth, group, at = cell
        return np.array(
            [group in series and bucket(depth, hour) == at for series, hour in self.leaves],
            float,
        )

    @cached_property
    def cells(self) -> list[Cell]:
        hours = {hour for _, hour in self.table.people}
        return sorted(
            {
                (depth, group, bucket(depth, hour))
                for depth in range(3)
                for group in self.table.series
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

    def computes(self, sums: np.ndarray) -> bool:
        if not len(self.known):
            return False
        rest = sums - self.known.T @ (self.known @ sums)
        return float(np.abs(rest).max(initial=0)) < TOLERANCE

    def exposed(self) -> list[Cell]:
        """The withheld cells that can be computed."""
        return [cell for cell in self.withheld if self.computes(self.covers(cell))]

    def exposed_few(self) -> list[tuple[int, ...]]:
        """Sets of fewer than k people, of whose events alone some sum can be computed."""
        everybody = sorted(frozenset().union(*self.seen))
        anybody = np.array([bool(people) for people in self.seen], bool)
        theirs = {
            tuple(people <= set(few) for people in self.seen): few
            for few in combinations(everybody, min(self.k - 1, len(everybody)))
        }
        return [
            few
            for leaves, few in theirs.items()
            if self._sum_within(np.array(leaves, bool), np.array(leaves, bool) & anybody)
            is not None
        ]

    def _sum_within(self, theirs: np.ndarray, some: np.ndarray) -> np.ndarray | None:
        """A sum that can be computed, of leaves of `theirs` alone, `some` among them; or None."""
        if not some.any() or not len(self.known):
            return None
        # Combinations of what is known that have nothing outside of `theirs`.
        _, sizes, rows = np.linalg.svd(self.known[:, ~theirs].T, full_matrices=True)
        sums = rows[int((sizes > TOLERANCE).sum()) :] @ self.known
        if not len(sums):
            return None
        # Projected in turns on these and on what is nowhere negative, a vector ends in both; and
        # not at zero if there is a sum at all: its scalar product with that never shrinks.
        projection, vector = sums.T @ sums, some.astype(float)
        for _ in range(ROUNDS):
            before, vector = vector, np.maximum(projection @ vector, 0)
            if vector[some].max() < ENOUGH:
                return None
            if np.abs(vector - before).max() < TOLERANCE:
                break
        return vector


def _basis(sums: list[np.ndarray] | np.ndarray) -> np.ndarray:
    """An orthonormal basis of what the sums span."""
    if not len(sums):
        return np.zeros((0, 0))
    _, sizes, rows = np.linalg.svd(np.array(sums), full_matrices=False)
    return rows[sizes > TOLERANCE]
