"""No table leaks: small random ones are audited by linear algebra over all that was released."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.aggregation.differencing import TOTAL, Attacker, Table, hour_of

# Two of one month, and one of the next.
DAYS = [datetime(2026, 1, day, tzinfo=UTC) for day in (30, 31)] + [datetime(2026, 2, 1, tzinfo=UTC)]
PERSONS = 9
# Events "a" or "b", of version 1 or 2, and those of "a" with plugin x or y.
KINDS = ("a1x", "a1y", "a2x", "a2y", "b1", "b2")
LINKED = ((TOTAL, "ab"), (TOTAL, "12"), ("a", "xy"))


def tables() -> st.SearchStrategy[Table]:
    """Up to three days of four hours, and four groups."""
    return st.integers(1, 4).flatmap(
        lambda groups: _tables(tuple("abcd"[:groups]), ((TOTAL, "abcd"[:groups]),), 3, 4)
    )


@st.composite
def _tables(
    draw: st.DrawFn,
    kinds: tuple[str, ...],
    made_of: tuple[tuple[str, str], ...],
    days: int,
    hours: int,
) -> Table:
    """Nine people: most cells hold few of them."""
    days = DAYS[: draw(st.integers(1, days))]
    hours = draw(st.integers(1, hours))
    leaves = [(kind, hour_of(day, hour)) for kind in kinds for day in days for hour in range(hours)]
    # Bits are persons; no bit is what nobody did, and more than all bits that nothing happened.
    cells = st.one_of(
        st.integers(0, 2**PERSONS - 1), st.just(2**PERSONS), st.sampled_from([1, 2, 3, 511])
    )
    drawn = draw(st.lists(cells, min_size=len(leaves), max_size=len(leaves)))
    return Table(
        {
            leaf: frozenset(person for person in range(PERSONS) if bits >> person & 1)
            for leaf, bits in zip(leaves, drawn, strict=True)
            if bits < 2**PERSONS
        },
        kinds,
        made_of,
    )


@settings(max_examples=100, deadline=None)
@given(table=tables(), k=st.integers(2, 6))
def test_nothing_withheld_can_be_computed(table: Table, k: int) -> None:
    attacker = Attacker(table, k)
    assert attacker.exposed() == []


@settings(max_examples=100, deadline=None)
@given(table=tables(), k=st.integers(2, 6))
def test_nothing_released_counts_fewer_than_k_people(table: Table, k: int) -> None:
    attacker = Attacker(table, k)
    counted = [attacker.table.seen(cell) for cell in attacker.cells if attacker.tells(cell)]
    assert all(len(people) >= k for people in counted if people is not None)


@settings(max_examples=100, deadline=None)
@given(table=tables(), k=st.integers(2, 5))
def test_no_sum_over_fewer_than_k_people_can_be_computed(table: Table, k: int) -> None:
    assert Attacker(table, k).exposed_few() == []


@settings(max_examples=60, deadline=None)
@given(table=_tables(KINDS, LINKED, 2, 3), k=st.integers(2, 4))
def test_tables_of_one_total_give_nothing_away_together(table: Table, k: int) -> None:
    attacker = Attacker(table, k)
    assert attacker.exposed() == []
    assert attacker.exposed_few() == []


@settings(max_examples=50, deadline=None)
@given(table=tables(), k=st.integers(0, 1))
def test_without_a_threshold_nothing_is_withheld(table: Table, k: int) -> None:
    assert Attacker(table, k).withheld == []
