"""What a day costs never exceeds what it may cost, whatever the settings."""

import math
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as some

from aggregation.budgets import DELTA, PARTS, Series, Terms


@some.composite
def terms(draw: some.DrawFn) -> Terms:
    """Any that a policy may have."""
    most_events = draw(some.integers(1, 1000))
    most_names = draw(some.integers(1, min(most_events, 100)))
    return Terms(draw(some.decimals("0.01", 10, places=2)), most_events, most_names)


@settings(deadline=None)
@given(terms())
def test_the_series_together_cost_what_the_day_may(of: Terms) -> None:
    costs = [of.sensitivity(series) / of.scale(series) for series in Series]
    assert sum(costs) <= Fraction(of.epsilon)
    assert sum(of.cost(series) for series in Series) == Fraction(of.epsilon)


@settings(deadline=None)
@given(terms())
def test_a_scale_is_exact_as_a_float_and_hardly_more_than_it_has_to_be(of: Terms) -> None:
    for series in Series:
        scale = of.scale(series)
        assert Fraction(float(scale)) == scale
        assert 0 <= scale - of.sensitivity(series) / of.cost(series) < Fraction(1, PARTS)


@settings(deadline=None)
@given(terms())
def test_names_of_a_person_are_no_more_than_their_events(of: Terms) -> None:
    assert of.most_of_a_name >= 1
    assert of.sensitivity(Series.NAMES) <= of.most_events


@settings(deadline=None)
@given(terms())
def test_a_single_persons_names_reach_the_threshold_as_rarely_as_delta_says(of: Terms) -> None:
    scale, step = float(of.scale(Series.NAMES)), of.threshold - of.most_of_a_name
    one = math.exp(-1 / scale)
    reached = of.most_names * one**step / (1 + one)
    assert reached <= DELTA
    # Not by much more than it takes: it would withhold what could be shown.
    assert of.most_names * one ** (step - 3) / (1 + one) > DELTA


@settings(deadline=None)
@given(terms())
def test_a_margin_is_the_least_that_nineteen_of_twenty_keep(of: Terms) -> None:
    for series in Series:
        one = math.exp(-1 / float(of.scale(series)))
        margin = of.margin(series)
        assert 2 * one ** (margin + 1) / (1 + one) <= 0.05 + 1e-9
        assert margin == 0 or 2 * one**margin / (1 + one) > 0.05 - 1e-9


def test_what_the_defaults_make() -> None:
    of = Terms(Decimal(1), 20, 5)
    assert [of.scale(series) for series in Series] == [50, 5, 50]
    assert [of.margin(series) for series in Series] == [150, 15, 150]
    assert (of.most_of_a_name, of.threshold) == (4, 973)
