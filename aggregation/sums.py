"""Sums of floats that are never too large for one. Pure."""

import math
import sys
from collections.abc import Sequence

_MOST = sys.float_info.max
# As many floats as there can be, each so much smaller, add up to one.
_SMALLER = 2.0**64


def total(values: Sequence[float]) -> float:
    """Their sum, or the largest float where it is larger still."""
    try:
        return math.fsum(values)
    except OverflowError:
        found = math.fsum(value / _SMALLER for value in values)
        most = _MOST / _SMALLER
        return min(max(found, -most), most) * _SMALLER
