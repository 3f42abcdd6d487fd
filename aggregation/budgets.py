"""What a day of private mode costs and how much noise that makes: its arithmetic. Pure.

The scales are fractions, so that nothing is lost in rounding; `aggregation.noise` has OpenDP check
all of it before anything is drawn. docs/disclosure.md has the reasons.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction

# How likely it is at most that a day shows a name for a single person's sake.
DELTA = 1e-8
# Scales are whole multiples of one part in so many: such a fraction is exact as a float.
PARTS = 64
# Of 20 numbers one may be further off than its margin.
BEYOND = 0.05


class Series(Enum):
    """What is drawn of a day."""

    EVENTS = "events"
    PEOPLE = "people"
    NAMES = "names"


# Of a day's epsilon.
SHARES = {
    Series.EVENTS: Fraction(2, 5),
    Series.PEOPLE: Fraction(1, 5),
    Series.NAMES: Fraction(2, 5),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a day is released: what it costs whoever is in it, and how much of a person
    counts."""

    epsilon: Decimal
    most_events: int
    most_names: int

    @property
    def most_of_a_name(self) -> int:
        """How many events of one name count of a person: those of all names are `most_events` at
        most."""
        return self.most_events // self.most_names

    def sensitivity(self, series: Series) -> int:
        """By how much one person can change a series, all its numbers together."""
        if series == Series.PEOPLE:
            return 1
        if series == Series.EVENTS:
            return self.most_events
        return self.most_names * self.most_of_a_name

    def cost(self, series: Series) -> Fraction:
        """What a series costs of the epsilon."""
        return Fraction(self.epsilon) * SHARES[series]

    def scale(self, series: Series) -> Fraction:
        """Of a series' noise: sensitivity over cost, rounded up."""
        exact = self.sensitivity(series) / self.cost(series)
        return Fraction(math.ceil(exact * PARTS), PARTS)

    def margin(self, series: Series) -> int:
        """The number that the noise of 19 in 20 doesn't exceed, in either direction."""
        scale, one = self._one(series)
        return max(0, math.ceil(scale * math.log(2 / (BEYOND * (1 + one)))) - 1)

    @property
    def threshold(self) -> int:
        """A name's number is shown from here on. What one person brings to names that nobody else
        has gets there with probability DELTA at most, in any of them."""
        scale, one = self._one(Series.NAMES)
        above = scale * math.log(self.most_names / (DELTA * (1 + one)))
        # One more than that, so that floats that are rounded don't matter.
        return self.most_of_a_name + math.ceil(above) + 1

    def _one(self, series: Series) -> tuple[float, float]:
        """The scale, and how much less likely a step away from the middle makes a number."""
        scale = float(self.scale(series))
        return scale, math.exp(-1 / scale)
