"""Which cells of a table may leave: k-anonymity with complementary suppression. Pure.

A table counts groups (the event names, or the values of a dimension) by buckets, at up to three
levels: months, days, hours. A cell that counts something, but fewer than k people, is small and
withheld. Whoever has a line's total and all its cells but one has that one too, so others are
withheld with it: until no sum that can be computed from what is released has small cells alone.

What is decided of a bucket depends on its whole day (hours) or month (days), never on the range
that was asked for. docs/decisions/0024-what-is-withheld-besides-small-groups.md has the reasons.
"""

from calendar import monthrange
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from aggregation.suppression import ABSENT, Mask, People, withheld_of_line, withheld_of_table

WHY_WITHHELD = (
    "Withheld: this group has fewer people than the project's threshold, or the number of such a "
    "group could be computed from it."
)

# The value that rollups fold the rarest values of a bucket into.
OTHER = "(other)"

# As a margin's number of people: it isn't released.
_WITHHELD = 0


@dataclass(frozen=True)
class Grid:
    """The people of one level's cells: an array of groups by buckets, `ABSENT` where no cell is.

    `buckets` are first moments, in UTC.
    """

    groups: tuple[str, ...]
    buckets: tuple[datetime, ...]
    people: People

    @classmethod
    def of(cls, rows: Iterable[tuple[datetime, str, int]]) -> "Grid":
        """A grid of rows (bucket, group, people), in any order, one for each cell there is."""
        rows = list(rows)
        buckets = tuple(sorted({bucket for bucket, _, _ in rows}))
        groups = tuple(sorted({group for _, group, _ in rows}))
        people = np.full((len(groups), len(buckets)), ABSENT, np.int64)
        if rows:
            column, row = _places(buckets), _places(groups)
            people[[row[group] for _, group, _ in rows], [column[at] for at, _, _ in rows]] = [
                number for _, _, number in rows
            ]
        return cls(groups, buckets, people)


@dataclass(frozen=True)
class Protected:
    """A table's grids, months first, and for each which of its cells are released.

    A mask is False also where there is no cell but that mustn't be told: such a bucket is to be
    shown as withheld, not as empty.
    """

    grids: tuple[Grid, ...]
    released: tuple[Mask, ...]

    def series(self, group: str) -> "Protected":
        """One group of the table, as the parent of another table."""
        grids, released = [], []
        for grid, mask in zip(self.grids, self.released, strict=True):
            rows = [row for row, name in enumerate(grid.groups) if name == group]
            grids.append(Grid((group,) * len(rows), grid.buckets, grid.people[rows]))
            released.append(mask[rows])
        return Protected(tuple(grids), tuple(released))


def protect(grids: Sequence[Grid], k: int, parent: Protected | None = None) -> Protected:
    """Decide about a table: its months, then its days if given, then its hours if given.

    Where hours are given, so are all hours of their days; where days are, all days of their months.
    `parent` is the series that the groups add up to, with at least as many levels; without one the
    table is such a series itself, of one group. The grids that come back are as wide as what is
    withheld: they may have groups and buckets more. What isn't in them is known to be empty.
    """
    wide: list[Grid] = []
    released: list[Mask] = []
    for depth, grid in enumerate(grids):
        above = (wide[-1], released[-1]) if wide else None
        over = (parent.grids[depth], parent.released[depth]) if parent else None
        buckets = over[0].buckets if over else _with_empty(grid.buckets, depth)
        grid = _widened(grid, above[0].groups if above else (), buckets)
        totals = _totals(*over, grid.buckets) if over else None
        wide.append(grid)
        if k <= 1 or not grid.people.size:
            released.append(np.ones(grid.people.shape, np.bool_))
        elif above is None:
            released.append(_released_months(grid.people, totals, k))
        else:
            released.append(_released_below(grid, above, totals, _COARSER[depth], k))
    return Protected(tuple(wide), tuple(released))


# By depth: the first moment of the bucket of the level above.
_COARSER: dict[int, Callable[[datetime], datetime]] = {
    1: lambda day: day.replace(day=1),
    2: lambda hour: hour.replace(hour=0),
}


def _with_empty(buckets: Sequence[datetime], depth: int) -> Sequence[datetime]:
    """All days of the months, or all hours of the days, that there are some of."""
    if depth == 1:
        months = {day.replace(day=1): monthrange(day.year, day.month)[1] for day in buckets}
        return [month.replace(day=day + 1) for month, days in months.items() for day in range(days)]
    if depth == 2:
        days = {hour.replace(hour=0) for hour in buckets}
        return [day.replace(hour=hour) for day in days for hour in range(24)]
    return buckets


def _widened(grid: Grid, groups: Iterable[str], buckets: Iterable[datetime]) -> Grid:
    all_groups = tuple(sorted({*grid.groups, *groups}))
    all_buckets = tuple(sorted({*grid.buckets, *buckets}))
    if (all_groups, all_buckets) == (grid.groups, grid.buckets):
        return grid
    return Grid(all_groups, all_buckets, _looked_up(grid, grid.people, all_groups, all_buckets))


def _looked_up(
    grid: Grid, numbers: People, groups: Sequence[str], buckets: Sequence[datetime]
) -> People:
    """Numbers of a grid's cells, for other groups and buckets; `ABSENT` for those it hasn't."""
    padded = np.full((len(grid.groups) + 1, len(grid.buckets) + 1), ABSENT, np.int64)
    padded[:-1, :-1] = numbers
    rows, columns = _places(grid.groups), _places(grid.buckets)
    found: People = padded[
        np.ix_([rows.get(name, -1) for name in groups], [columns.get(at, -1) for at in buckets])
    ]
    return found


def _margins(
    grid: Grid, released: Mask, groups: Sequence[str], buckets: Sequence[datetime]
) -> People:
    """The people of cells as margins of others: `_WITHHELD` of those that aren't released."""
    return _looked_up(grid, np.where(released, grid.people, _WITHHELD), groups, buckets)


def _totals(parent: Grid, released: Mask, buckets: Sequence[datetime]) -> People:
    """A parent's cells as the margins of buckets."""
    totals: People = _margins(parent, released, parent.groups or ("",), buckets)[0]
    return totals


def _released_months(people: People, totals: People | None, k: int) -> Mask:
    """Months by themselves: nothing adds months up."""
    released: Mask = (people == ABSENT) | (people >= k)
    if totals is None:
        return released
    released = np.zeros(people.shape, np.bool_)
    for column in np.flatnonzero(totals != _WITHHELD):
        released[:, column] = ~withheld_of_line(people[:, column], k)
    return released


def _released_below(
    grid: Grid,
    above: tuple[Grid, Mask],
    totals: People | None,
    coarser: Callable[[datetime], datetime],
    k: int,
) -> Mask:
    """The hours of days, or the days of months: each day or month is decided by itself."""
    blocks = [coarser(bucket) for bucket in grid.buckets]
    starts = [at for at in range(len(blocks)) if at == 0 or blocks[at] != blocks[at - 1]]
    margins = _margins(*above, grid.groups, [blocks[at] for at in starts])
    other = np.array([name == OTHER for name in grid.groups])
    released = np.ones(grid.people.shape, np.bool_)
    for margin, start, end in zip(margins.T, starts, [*starts[1:], len(blocks)], strict=True):
        part = slice(start, end)
        people = grid.people[:, part]
        if totals is None:
            released[:, part] = _released_of_series(people, margin, k)
        else:
            released[:, part] = _released_of_block(people, margin, totals[part], other, k)
    return released


def _released_of_series(people: People, margin: People, k: int) -> Mask:
    """What a series without a parent releases of one day or month; an array of one group."""
    if margin[0] == _WITHHELD:
        return np.zeros(people.shape, np.bool_)
    return ~withheld_of_line(people[0], k)[None, :]


def _released_of_block(people: People, margin: People, totals: People, other: Mask, k: int) -> Mask:
    """What a table releases of one day or month.

    Of the groups whose margins are withheld only the sum is known, and so it is of such buckets.
    Either are one line of the table that is decided about, and all in them is withheld, also where
    they are empty.
    """
    margin, folded = _with_missing(people, margin, other, k)
    present = people != ABSENT
    totals = np.where((totals == ABSENT) & present.any(0), _sure(people, 0, k), totals)
    groups, buckets = margin == _WITHHELD, totals == _WITHHELD
    released = np.ones(people.shape, np.bool_)
    released[:, buckets] = ~(present.any(1) | groups)[:, None]
    released[groups | folded] = False

    alone = present.any(1) & ~groups & ~folded, present.any(0) & ~buckets
    table = _merged(people, alone[0], (groups & present.any(1), folded))
    table = _merged(table.T, alone[1], (buckets & present.any(0),)).T
    if not table.size:
        return released
    hidden = np.ones(table.shape, np.bool_)
    inner = slice(alone[0].sum()), slice(alone[1].sum())
    hidden[inner] = False
    released[np.ix_(*alone)] = ~withheld_of_table(table, hidden, k)[inner]
    return released


def _with_missing(people: People, margin: People, other: Mask, k: int) -> tuple[People, Mask]:
    """Margins for groups that have cells but no margin, and the groups that share that of others.

    Where no group has one the day or month isn't rolled up yet: it will be released of those that
    have a cell of k people. Else a group without one was folded into the others there.
    """
    missing = (margin == ABSENT) & (people != ABSENT).any(1)
    if not missing.any():
        return margin, missing
    if (margin == ABSENT).all():
        return np.where(missing, _sure(people, 1, k), margin), np.zeros_like(missing)
    if (margin[other] > _WITHHELD).any():
        return margin, missing | other
    return np.where(missing, _WITHHELD, margin), np.zeros_like(missing)


def _sure(people: People, axis: int, k: int) -> People:
    """What totals have for certain, if they have a cell of k people; others count as withheld."""
    most = people.max(axis)
    return np.where(most >= k, most, _WITHHELD)


def _merged(people: People, alone: Mask, together: Iterable[Mask]) -> People:
    """The rows that stand alone, then one for each of the sets of rows that is none."""
    rows = [people[alone], *(people[some].max(0, keepdims=True) for some in together if some.any())]
    return np.concatenate(rows)


def _places(names: Sequence[Hashable]) -> dict[Any, int]:
    return {name: place for place, name in enumerate(names)}
