"""Complementary suppression in one table of groups by buckets whose totals are all known. Pure.

The table is a graph: its lines (groups and buckets) are the nodes, what is withheld are the edges
(Gusfield 1988). An edge leads from its bucket to its group, and that of a large cell, of k people
or more, back as well. No sum that can be computed has small cells alone if each of them lies on a
directed cycle: so has every edge inside of one strongly connected part, here the *core*. What lies
outside is safe too if it is a line that is withheld *whole* and touches the core. The argument is
in docs/decisions/0024-what-is-withheld-besides-small-groups.md.
"""

import numpy as np
from numpy.typing import NDArray

People = NDArray[np.int64]
Mask = NDArray[np.bool_]
Lines = tuple[Mask, Mask]  # of groups, of buckets

# In an array of people: no such cell, which means that nothing happened there.
ABSENT = -1
# What a cell costs more if withholding it touches another line, and that of none that can be.
_FAR = 2**40
_NEVER = np.iinfo(np.int64).max


def withheld_of_table(people: People, hidden: Mask, k: int) -> Mask:
    """What to withhold of a table, `hidden` and all cells of fewer than k people among it.

    Each line's total is taken as released, and as one of at least k people. No line is empty.
    Absent cells are withheld, so that nobody learns that they are empty, in lines withheld whole
    (three events in three hours would be one in each), and else only where nothing less helps.
    """
    present: Mask = people != ABSENT
    large: Mask = people >= k
    withheld = present & (hidden | ~large)
    if not withheld.any():
        return withheld
    for axis in (1, 0):
        costs = _costs(people, large & ~withheld, withheld)
        withheld |= _least(costs, _lacking(present, large, withheld), axis)
    while (stray := _stray(present, large, withheld)) is not None:
        more = _joining(people, large, withheld, *stray)
        if not more.any():
            return np.ones_like(present)
        withheld |= more
    # What can be computed anyway, and has enough people, may as well be told.
    withheld &= ~_determined(withheld, large & ~hidden)
    released = present & ~withheld
    withheld |= ~np.any(released, 1)[:, None] | ~np.any(released, 0)
    return withheld


def withheld_of_line(people: People, k: int) -> Mask:
    """What to withhold of a line whose total is released: what is small, and the least beside."""
    large: Mask = people >= k
    withheld: Mask = (people != ABSENT) & ~large
    if withheld.any() and large.any():
        withheld[np.argmin(np.where(large, people, _NEVER))] = True
    whole = withheld.any() and not (large & ~withheld).any()
    return np.ones_like(withheld) if whole else withheld


def _lacking(present: Mask, large: Mask, withheld: Mask) -> Lines:
    """The lines with something withheld, though neither all of it nor a cell of k people."""
    released, both = present & ~withheld, withheld & large
    return (
        np.any(withheld, 1) & np.any(released, 1) & ~np.any(both, 1),
        np.any(withheld, 0) & np.any(released, 0) & ~np.any(both, 0),
    )


def _costs(people: People, candidates: Mask, withheld: Mask) -> People:
    """What to rank candidates by: their people, but lines with something withheld come first."""
    touched = np.any(withheld, 1)[:, None] & np.any(withheld, 0)
    return np.where(candidates, people + np.where(touched, 0, _FAR), _NEVER)


def _least(costs: People, lines: Lines, axis: int) -> Mask:
    """In each of the groups (axis 1) or buckets (axis 0) the candidate that costs least, if any."""
    chosen = np.zeros(costs.shape, np.bool_)
    if axis:
        groups = np.flatnonzero(lines[0])
        chosen[groups, costs[groups].argmin(1)] = True
    else:
        buckets = np.flatnonzero(lines[1])
        chosen[costs[:, buckets].argmin(0), buckets] = True
    possible: Mask = costs != _NEVER
    return chosen & possible


def _stray(present: Mask, large: Mask, withheld: Mask) -> tuple[Lines, Lines] | None:
    """The core, and the lines with something withheld that aren't protected by it; or None."""
    both_ways = withheld & large
    groups, buckets = core = _core(withheld, both_ways)
    released = present & ~withheld
    stray = (
        withheld.any(1) & ~groups & (released.any(1) | ~(withheld & buckets).any(1)),
        withheld.any(0) & ~buckets & (released.any(0) | ~(withheld & groups[:, None]).any(0)),
    )
    return (core, stray) if stray[0].any() or stray[1].any() else None


def _core(withheld: Mask, both_ways: Mask) -> Lines:
    """The strongly connected lines around the line with the most edges that go both ways."""
    of_groups, of_buckets = both_ways.sum(1), both_ways.sum(0)
    groups, buckets = np.zeros(len(of_groups), np.bool_), np.zeros(len(of_buckets), np.bool_)
    if of_groups.max() > of_buckets.max():
        groups[of_groups.argmax()] = True
    else:
        buckets[of_buckets.argmax()] = True
    ahead = _reached(withheld, both_ways, groups, buckets)
    behind = _reached(both_ways, withheld, groups, buckets)
    return ahead[0] & behind[0], ahead[1] & behind[1]


def _reached(to_groups: Mask, to_buckets: Mask, groups: Mask, buckets: Mask) -> Lines:
    """The lines that edges lead to from some lines."""
    while True:
        more_groups = groups | (to_groups & buckets).any(1)
        more_buckets = buckets | (to_buckets & more_groups[:, None]).any(0)
        if (more_groups == groups).all() and (more_buckets == buckets).all():
            return groups, buckets
        groups, buckets = more_groups, more_buckets


def _joining(people: People, large: Mask, withheld: Mask, core: Lines, stray: Lines) -> Mask:
    """Cells that, once withheld too, bring stray lines nearer to the core; none if nothing does."""
    free = large & ~withheld
    of_stray = stray[0][:, None] | stray[1]
    between = (stray[0][:, None] & core[1]) | (core[0][:, None] & stray[1])
    for candidates in (free & between, free & of_stray):
        costs = _costs(people, candidates, withheld)
        for axis in (0, 1):
            if (more := _least(costs, stray, axis)).any():
                return more
    # Only lines withheld whole are left: they touch the core once they hide where they are empty.
    empty: Mask = people == ABSENT
    return empty & between & ~withheld


def _determined(withheld: Mask, candidates: Mask) -> Mask:
    """The candidates that can be computed: bridges of the graph."""
    edges = withheld.astype(np.int64)
    # The squares that each withheld cell is a corner of: what lies on a cycle is no bridge.
    squares = edges @ (edges.T @ edges) - edges.sum(1)[:, None] - edges.sum(0) + 1
    found = np.zeros_like(withheld)
    if (withheld & candidates & (squares == 0)).any():
        for group, bucket in _bridges(withheld):
            found[group, bucket] = True
    return found & candidates


def _bridges(withheld: Mask) -> list[tuple[int, int]]:
    """The edges (group, bucket) on no cycle: Tarjan's search, depth first, with its own stack."""
    width = len(withheld)
    near = [np.flatnonzero(line) + width for line in withheld]
    near += [np.flatnonzero(line) for line in withheld.T]
    entered: dict[int, int] = {}
    lowest: dict[int, int] = {}
    found = []
    for root in range(width):
        if root in entered:
            continue
        entered[root] = lowest[root] = len(entered)
        path = [(root, -1, iter(near[root].tolist()))]
        while path:
            line, before, others = path[-1]
            for other in others:
                if other not in entered:
                    entered[other] = lowest[other] = len(entered)
                    path.append((other, line, iter(near[other].tolist())))
                    break
                if other != before:
                    lowest[line] = min(lowest[line], entered[other])
            else:
                path.pop()
                if before >= 0:
                    lowest[before] = min(lowest[before], lowest[line])
                    if lowest[line] > entered[before]:
                        found.append((min(line, before), max(line, before) - width))
    return found
