"""Noise, and the threshold for names, by OpenDP: the only module that knows it.

It samples whole numbers exactly (Canonne, Kamath, Steinke 2020), from OpenSSL's randomness. Before
anything is drawn its own map, from how much a person changes to what that costs, must agree with
`aggregation.budgets`.

Its library is 270 MB: what doesn't draw mustn't import this.
"""

from dataclasses import dataclass
from math import inf, nextafter

import opendp.prelude as dp

from aggregation.budgets import DELTA, Series, Terms
from aggregation.clipping import Clipped

# What has a proof whose vetting isn't completed. Nothing needs "honest-but-curious", nor floats.
dp.enable_features("contrib")

_WHOLE = dp.atom_domain(T="i64"), dp.absolute_distance(T="i64")
_BY_NAME = (
    dp.map_domain(dp.atom_domain(T=str), dp.atom_domain(T="i64")),
    dp.l01inf_distance(dp.absolute_distance(T="i64")),
)


class TooLittleNoise(Exception):
    """OpenDP says that a release would cost more than it may. Nothing was drawn."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What may be shown of a day: two numbers, which may be negative, and those of the names that
    have enough."""

    events: int
    people: int
    names: dict[str, int]


def draw(terms: Terms, clipped: Clipped) -> Drawn:
    """Draw a day's numbers. Whoever is in it loses `terms.epsilon` and DELTA each time."""
    return Drawn(
        events=_whole(terms, Series.EVENTS)(clipped.events),
        people=_whole(terms, Series.PEOPLE)(clipped.people),
        names=_by_name(terms)(dict(clipped.names)),
    )


def _whole(terms: Terms, series: Series) -> dp.Measurement:
    made = dp.m.make_laplace(*_WHOLE, scale=float(terms.scale(series)))
    _demand(terms, series, made.map(terms.sensitivity(series)), 0)
    return made


def _by_name(terms: Terms) -> dp.Measurement:
    scale = float(terms.scale(Series.NAMES))
    made = dp.m.make_laplace_threshold(*_BY_NAME, scale=scale, threshold=terms.threshold)
    # Of how many names, how many events in all, and how many of one name.
    changed = terms.most_names, terms.sensitivity(Series.NAMES), terms.most_of_a_name
    _demand(terms, Series.NAMES, *made.map(changed))
    return made


def _demand(terms: Terms, series: Series, epsilon: float, delta: float) -> None:
    """Refuse what costs more than it may. OpenDP rounds up to the next float."""
    if epsilon > nextafter(float(terms.cost(series)), inf) or delta > DELTA:
        raise TooLittleNoise
