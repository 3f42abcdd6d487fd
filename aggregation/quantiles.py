"""Quantiles from counts of log-spaced buckets, as DDSketch has them: each is at most 1 % off, and
counts of any parts add up to those of the whole. Pure.

A bucket is told by a key, which orders as its values do: 0 for zero, and beside it two ranges for
the exponents of what is positive and what is negative.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

ACCURACY = 0.01
# A bucket of exponent i has the values above _GAMMA ** (i - 1) up to _GAMMA ** i.
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
# More than the exponent of any float, so that all keys of positive values are positive.
_BEYOND = 40_000
# More than there are keys.
_APART = 200_000
# A bucket is packed into a word: its key, and in the lowest bits its count. Words order as keys do.
_COUNT_BITS = 46
_MOST_COUNT = 2**_COUNT_BITS - 1

WORD = np.dtype(">i8")
Floats = NDArray[np.float64]
Keys = NDArray[np.int64]
Counts = NDArray[np.int64]


class Quantiles:
    """How many values each bucket has; `keys` ascend."""

    __slots__ = ("counts", "keys")

    def __init__(self, keys: Keys | None = None, counts: Counts | None = None) -> None:
        self.keys: Keys = np.empty(0, np.int64) if keys is None else keys
        self.counts: Counts = np.empty(0, np.int64) if counts is None else counts

    def unite(self, keys: Keys | Sequence[int], counts: Counts | Sequence[int]) -> None:
        """Add counts by key, in any order, of as many others at once as there are."""
        keys = np.concatenate((self.keys, np.asarray(keys, np.int64)))
        counts = np.concatenate((self.counts, np.asarray(counts, np.int64)))
        order = keys.argsort(kind="stable")
        keys, counts = keys[order], counts[order]
        starts = _starts(keys)
        self.keys = keys[starts]
        self.counts = np.minimum(np.add.reduceat(counts, starts), _MOST_COUNT)

    @property
    def packed(self) -> bytes:
        """What is stored: eight bytes a bucket, the most significant first."""
        words = (self.keys << _COUNT_BITS) + np.minimum(self.counts, _MOST_COUNT)
        packed: bytes = words.astype(WORD).tobytes()
        return packed

    def quantile(self, q: float) -> float | None:
        """The value that a share `q` of all values is below; None where there are none."""
        if not self.keys.size:
            return None
        until = np.cumsum(self.counts)
        rank = math.floor(q * (int(until[-1]) - 1))
        return value_of(int(self.keys[np.searchsorted(until, rank, side="right")]))


def unpacked(packed: bytes) -> tuple[Keys, Counts]:
    """Keys and counts, of one that was packed or of several, one behind the other."""
    words = np.frombuffer(packed, WORD).astype(np.int64)
    return words >> _COUNT_BITS, words & _MOST_COUNT


def counted(
    values: Floats, lengths: Sequence[int], weights: Counts | None = None
) -> Iterator[Quantiles]:
    """Count finite values of many: the first so many are one's, the next so many another's. With
    `weights` each counts so many times.

    All at once, since most of what numpy costs with few values is to call it.
    """
    firsts = np.arange(len(lengths)) * _APART
    found = np.repeat(firsts, lengths) + keys_of(values) + _APART // 2
    if weights is None:
        found.sort()
        starts = _starts(found)
        counts = np.diff(starts, append=found.size)
    else:
        order = found.argsort(kind="stable")
        found = found[order]
        starts = _starts(found)
        # Floats are exact up to more than a bucket can hold, and don't overflow beyond.
        added = np.add.reduceat(weights[order].astype(np.float64), starts)
        counts = np.minimum(added, _MOST_COUNT).astype(np.int64)
    found = found[starts]
    edges = np.searchsorted(found, [*firsts, len(lengths) * _APART])
    keys = found % _APART - _APART // 2
    for start, end in pairwise(edges.tolist()):
        yield Quantiles(keys[start:end], counts[start:end])


def _starts(ascending: NDArray[Any]) -> NDArray[np.intp]:
    """Where each of the values begins."""
    fresh = np.ones(ascending.size, bool)
    np.not_equal(ascending[1:], ascending[:-1], out=fresh[1:])
    return fresh.nonzero()[0]


def keys_of(values: Floats) -> Keys:
    """The key of each value's bucket."""
    sizes = np.abs(values)
    zero = sizes == 0
    exponents = np.ceil(np.log(np.where(zero, 1, sizes)) / _LOG_GAMMA)
    keys = np.where(zero, 0, np.copysign(exponents + _BEYOND, values))
    return keys.astype(np.int64)


def value_of(key: int) -> float:
    """What stands for a bucket: no value in it is further away than `ACCURACY` times itself."""
    if key == 0:
        return 0.0
    exponent = (abs(key) - _BEYOND) * _LOG_GAMMA + math.log1p(-ACCURACY)
    # The last bucket's may be beyond the largest float.
    size = math.exp(exponent) if exponent < _LARGEST else sys.float_info.max
    return math.copysign(size, key)


_LARGEST = math.log(sys.float_info.max)
