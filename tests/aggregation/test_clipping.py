"""One person changes what is counted of a day by no more than the noise is made for."""

from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from aggregation.budgets import Series, Terms
from aggregation.clipping import Clipped, Contributions

DAY = date(2026, 11, 20)
Event = tuple[int, str]
EVENTS = some.lists(
    some.tuples(some.integers(0, 5), some.sampled_from([f"name {n}" for n in range(12)])),
    max_size=80,
)
TERMS = some.builds(
    lambda events, names: Terms(Decimal(1), events, min(events, names)),
    some.integers(1, 12),
    some.integers(1, 8),
)


def clipped(terms: Terms, *pieces: list[Event], day: date = DAY) -> Clipped:
    """What is counted of events, of which each piece is added by itself."""
    contributions = Contributions(terms, day)
    for piece in pieces:
        by_name: dict[str, Counter[int]] = defaultdict(Counter)
        for person, name in piece:
            by_name[name][person] += 1
        contributions.add(
            (name, b"".join(hashed(person) for person in of), b"".join(map(packed, of.values())))
            for name, of in by_name.items()
        )
    return contributions.clipped


def hashed(person: int) -> bytes:
    """Some differ in their last bytes alone, or in the first."""
    return (person // 2).to_bytes(8, "big") + (person % 2 * 0x9E3779B97F4A7C15).to_bytes(8, "big")


def packed(count: int) -> bytes:
    return count.to_bytes(8, "big")


@settings(deadline=None)
@given(EVENTS, TERMS)
def test_without_one_person_little_is_different(events: list[Event], terms: Terms) -> None:
    everybody = clipped(terms, events)
    for person in range(6):
        others = clipped(terms, [event for event in events if event[0] != person])
        assert 0 <= everybody.events - others.events <= terms.sensitivity(Series.EVENTS)
        assert 0 <= everybody.people - others.people <= terms.sensitivity(Series.PEOPLE)
        changes = [
            everybody.names.get(name, 0) - others.names.get(name, 0)
            for name in everybody.names.keys() | others.names.keys()
        ]
        assert all(0 <= change <= terms.most_of_a_name for change in changes)
        assert sum(map(bool, changes)) <= terms.most_names
        assert sum(changes) <= terms.sensitivity(Series.NAMES)


@settings(deadline=None)
@given(EVENTS, TERMS, some.lists(some.integers(0, 80), max_size=4))
def test_it_does_not_matter_in_which_pieces_it_comes(
    events: list[Event], terms: Terms, cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), len(events)]
    pieces = [events[start:end] for start, end in pairwise(edges)]
    whole = clipped(terms, events)
    assert clipped(terms, *pieces) == whole
    assert clipped(terms, *reversed(pieces)) == whole


@settings(deadline=None)
@given(EVENTS)
def test_who_has_little_counts_whole(events: list[Event]) -> None:
    found = clipped(Terms(Decimal(1), 100 * 12, 12), events)
    assert found.events == len(events)
    assert found.people == len({person for person, _ in events})
    assert found.names == Counter(name for _, name in events)


def test_a_day_of_nobody_is_nothing() -> None:
    assert clipped(Terms(Decimal(1), 20, 5), []) == Clipped(0, 0, {})


def test_who_has_much_counts_so_much() -> None:
    terms = Terms(Decimal(1), 20, 5)
    events = [(1, f"name {n}") for n in range(30) for _ in range(10)]
    found = clipped(terms, events)
    assert (found.events, found.people) == (20, 1)
    assert sorted(found.names.values()) == [4] * 5


def test_which_names_count_is_chance_and_another_one_each_day() -> None:
    """Of 4,000 persons with the same ten names, of whom two names count each."""
    terms = Terms(Decimal(1), 2, 2)
    events = [(person, f"name {n}") for person in range(4000) for n in range(10)]
    contributions = Contributions(terms, DAY)
    people = b"".join((person * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128).to_bytes(16, "big")
                      for person in range(4000))  # fmt: skip
    contributions.add((name, people, packed(1) * 4000) for name in dict(map(reversed, events)))
    found = contributions.clipped.names
    assert sum(found.values()) == 8000
    # Each 800 on average; six standard deviations of one.
    assert all(found[f"name {n}"] == pytest.approx(800, abs=6 * 25.3) for n in range(10))
    mine = [(7, f"name {n}") for n in range(10)]
    days = [frozenset(clipped(terms, mine, day=date(2026, 11, n)).names) for n in range(1, 31)]
    assert len(set(days)) > 10
