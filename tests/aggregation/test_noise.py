"""What OpenDP draws follows the law that the budget is reckoned with, and its threshold too.

By the Dvoretzky-Kiefer-Wolfowitz inequality (Massart 1990) the distribution of n draws is further
than `distance` from the law's with probability CHANCE at most, whatever the law: a run that fails
was no bad luck.
"""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from aggregation import budgets, noise
from aggregation.budgets import Series, Terms
from aggregation.clipping import Clipped
from tests.aggregation.test_budgets import terms as any_terms

TERMS = Terms(Decimal(1), 20, 5)
CHANCE = 1e-9
# Far above any threshold.
MUCH = 10**9


def law(scale: float) -> Callable[[Any], Any]:
    """The distribution function of discrete Laplace noise: P(k) ~ exp(-|k| / scale)."""
    one = math.exp(-1 / scale)

    def below_or_at(k: Any) -> Any:
        return np.where(k < 0, one ** np.abs(k) / (1 + one), 1 - one ** (np.abs(k) + 1) / (1 + one))

    return below_or_at


def apart(drawn: Sequence[int], scale: float) -> float:
    """The largest difference between the distribution of what was drawn and the law's."""
    values, counts = np.unique(np.array(drawn), return_counts=True)
    found = np.cumsum(counts) / len(drawn)
    before = np.concatenate([[0], found[:-1]])
    of = law(scale)
    return float(max(abs(found - of(values)).max(), abs(before - of(values - 1)).max()))


def distance(draws: int) -> float:
    return math.sqrt(math.log(2 / CHANCE) / (2 * draws))


def drawn_of(series: Series, draws: int) -> list[int]:
    """The noise of many numbers."""
    if series == Series.NAMES:
        shown = noise._by_name(TERMS)({f"n{number}": MUCH for number in range(draws)})
        assert len(shown) == draws
        return [number - MUCH for number in shown.values()]
    draw = noise._whole(TERMS, series)
    return [draw(MUCH) - MUCH for _ in range(draws)]


@pytest.mark.parametrize(
    ("series", "draws"), [(Series.EVENTS, 10_000), (Series.PEOPLE, 10_000), (Series.NAMES, 200_000)]
)
def test_noise_is_discrete_laplace_of_its_scale(series: Series, draws: int) -> None:
    drawn = drawn_of(series, draws)
    scale = float(TERMS.scale(series))
    assert apart(drawn, scale) < distance(draws)
    # With so many draws, a scale that is off would be seen.
    off = 1.3 if draws == 10_000 else 1.06
    assert apart(drawn, scale * off) > distance(draws)
    assert apart(drawn, scale / off) > distance(draws)
    beyond = np.abs(drawn) > TERMS.margin(series)
    assert np.mean(beyond) < 0.05 + distance(draws)


def test_days_have_noise_of_their_own() -> None:
    first, second = (noise.draw(TERMS, Clipped(MUCH, MUCH, {"a": MUCH})) for _ in range(2))
    assert (first.events, first.names) != (second.events, second.names)


def test_names_of_nobody_else_are_shown_as_rarely_as_delta_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a delta that is large enough to be seen."""
    monkeypatch.setattr(budgets, "DELTA", 0.2)
    monkeypatch.setattr(noise, "DELTA", 0.2)
    names = 100_000
    alone = dict.fromkeys((f"n{number}" for number in range(names)), TERMS.most_of_a_name)
    often = len(noise._by_name(TERMS)(alone)) / names
    # Each person's have several chances.
    assert 1 - (1 - often) ** TERMS.most_names < 0.2 + TERMS.most_names * distance(names)
    assert often > 0.7 * 0.2 / TERMS.most_names


def test_shown_names_reach_the_threshold_and_others_are_not_there() -> None:
    around = {f"n{number}": TERMS.threshold for number in range(2000)}
    shown = noise._by_name(TERMS)(around)
    assert 0 < len(shown) < 2000
    assert min(shown.values()) >= TERMS.threshold
    few = {f"n{number}": 1 for number in range(1000)}
    assert noise.draw(TERMS, Clipped(0, 0, few)).names == {}


@given(any_terms())
@settings(max_examples=50, deadline=None)
def test_opendp_agrees_with_each_budget(of: Terms) -> None:
    noise.draw(of, Clipped(0, 0, {}))


@pytest.mark.parametrize("series", Series)
def test_nothing_is_drawn_with_less_noise_than_that(
    monkeypatch: pytest.MonkeyPatch, series: Series
) -> None:
    right = Terms.scale
    part = Fraction(1, budgets.PARTS)
    monkeypatch.setattr(Terms, "scale", lambda self, of: right(self, of) - part * (of == series))
    with pytest.raises(noise.TooLittleNoise):
        noise.draw(TERMS, Clipped(0, 0, {}))


def test_nothing_is_drawn_with_a_lower_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    lower = TERMS.threshold - 3
    monkeypatch.setattr(Terms, "threshold", lower)
    with pytest.raises(noise.TooLittleNoise):
        noise.draw(TERMS, Clipped(0, 0, {}))
