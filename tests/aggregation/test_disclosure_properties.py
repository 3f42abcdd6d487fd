"""No table leaks: small random ones are audited by linear algebra over all that was released."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.aggregation.differencing import Attacker, Table, hour_of

# Two of one month, and one of the next.
DAYS = [datetime(2026, 1, day, tzinfo=UTC) for day in (30, 31)] + [datetime(2026, 2, 1, tzinfo=UTC)]
PERSONS = 9


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Up to three days of four hours, four groups, nine people: most cells hold few of them."""
    groups = "abcd"[: draw(st.integers(1, 4))]
    days = DAYS[: draw(st.integers(1, 3))]
    hours = draw(st.integers(1, 4))
    leaves = [
        (group, hour_of(day, hour)) for group in groups for day in days for hour in range(hours)
    ]
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
        }
    )


@settings(max_examples=200, deadline=None)
@given(table=tables(), k=st.integers(2, 6))
def test_nothing_withheld_can_be_computed(table: Table, k: int) -> None:
    attacker = Attacker(table, k)
    assert attacker.exposed() == []


@settings(max_examples=200, deadline=None)
@given(table=tables(), k=st.integers(2, 6))
def test_nothing_released_counts_fewer_than_k_people(table: Table, k: int) -> None:
    attacker = Attacker(table, k)
    counted = [attacker.table.seen(cell) for cell in attacker.cells if attacker.tells(cell)]
    assert all(len(people) >= k for people in counted if people is not None)


@settings(max_examples=100, deadline=None)
@given(table=tables(), k=st.integers(2, 5))
def test_no_sum_over_fewer_than_k_people_can_be_computed(table: Table, k: int) -> None:
    assert Attacker(table, k).exposed_few() == []


@settings(max_examples=50, deadline=None)
@given(table=tables(), k=st.integers(0, 1))
def test_without_a_threshold_nothing_is_withheld(table: Table, k: int) -> None:
    assert Attacker(table, k).withheld == []
