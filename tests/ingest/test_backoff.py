"""How long a collector is left alone: as the OTLP specification has it, and longer and longer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.forwarding.backoff import pause

failures = st.integers(min_value=1, max_value=10**6)
durations = st.floats(min_value=0, max_value=10**7)
chances = st.floats(min_value=0, max_value=1, exclude_max=True)
ALMOST_ONE = 1 - 1e-12


@pytest.mark.parametrize(
    ("count", "seconds"),
    [(1, 5), (2, 7.5), (3, 11.25), (4, 16.875), (5, 25.3125), (6, 30), (7, 30)],
)
def test_pauses_grow_by_half_up_to_thirty_seconds(count: int, seconds: float) -> None:
    assert pause(count, 0, None, ALMOST_ONE) == pytest.approx(seconds)
    assert pause(count, 599, None, 0) == pytest.approx(seconds / 2)


def test_who_fails_for_ten_minutes_is_asked_every_five() -> None:
    assert pause(25, 600, None, ALMOST_ONE) == pytest.approx(300)
    assert pause(25, 86_400, None, 0) == 150


def test_what_the_collector_asks_for_wins_where_it_is_more() -> None:
    assert pause(1, 0, 17, 0.5) == 17
    assert pause(1, 0, 1, ALMOST_ONE) == pytest.approx(5)
    assert pause(1, 0, 86_400, 0) == 3600


@given(failures, durations, st.none() | st.floats(min_value=0), chances)
def test_a_pause_is_never_nothing_and_never_more_than_an_hour(
    count: int, failing_for: float, retry_after: float | None, chance: float
) -> None:
    assert 2.5 <= pause(count, failing_for, retry_after, chance) <= 3600


@given(failures, durations, chances, chances)
def test_chance_spreads_a_pause_over_its_second_half(
    count: int, failing_for: float, chance: float, other: float
) -> None:
    shortest, longest = pause(count, failing_for, None, 0), pause(count, failing_for, None, 1)
    assert longest == 2 * shortest
    assert shortest <= pause(count, failing_for, None, chance) <= longest
    if chance < other:
        assert pause(count, failing_for, None, chance) <= pause(count, failing_for, None, other)
