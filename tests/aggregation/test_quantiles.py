"""Quantiles from counts: as good as promised for any floats, however they came together."""

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from aggregation import quantiles
from aggregation.quantiles import ACCURACY, Quantiles, keys_of, unpacked, value_of

# Of what is nearly zero only as many digits are kept as a float has there.
LEAST = math.ulp(0.0)
LARGEST, SMALLEST = sys.float_info.max, sys.float_info.min
VALUES = some.floats(allow_nan=False, allow_infinity=False)
SHARES = some.one_of(some.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]), some.floats(0, 1))


def counted(*parts: list[float]) -> Quantiles:
    """Counted part by part, and added up in this order."""
    values = np.array([value for part in parts for value in part], np.float64)
    whole = Quantiles()
    for one in quantiles.counted(values, [len(part) for part in parts]):
        whole.unite(one.keys, one.counts)
    return whole


def near(exact: float) -> Any:
    # A logarithm isn't exact either, on a bucket's very edge.
    return pytest.approx(exact, rel=ACCURACY + 1e-12, abs=LEAST)


@given(values=some.lists(VALUES, min_size=1), share=SHARES)
def test_any_quantile_of_any_values_is_near_the_exact_one(
    values: list[float], share: float
) -> None:
    exact = sorted(values)[math.floor(share * (len(values) - 1))]
    assert counted(values).quantile(share) == near(exact)


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, 1.0, -1.0, LARGEST, -LARGEST, SMALLEST, -SMALLEST, LEAST, -LEAST, 3 * LEAST,
     SMALLEST - LEAST, 1 + sys.float_info.epsilon, 1 - sys.float_info.epsilon],
)  # fmt: skip
def test_a_value_at_an_edge_is_its_own_quantile(value: float) -> None:
    found = counted([value] * 3).quantile(0.5)
    assert found == near(value)
    assert found is not None
    assert math.isfinite(found)


@given(parts=some.lists(some.lists(VALUES)), random=some.randoms(use_true_random=False))
def test_the_order_of_adding_up_makes_no_difference(parts: list[list[float]], random: Any) -> None:
    whole = counted([value for part in parts for value in part])
    random.shuffle(parts)
    merged = counted(*parts)
    assert merged.keys.tolist() == whole.keys.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()
    assert merged.counts.sum() == sum(map(len, parts))


@given(values=some.lists(VALUES))
def test_counts_of_many_are_added_up_at_once(values: list[float]) -> None:
    one, many = counted(values), Quantiles()
    many.unite([*one.keys, *one.keys], [*one.counts, *one.counts])
    assert many.keys.tolist() == one.keys.tolist()
    assert many.counts.tolist() == [2 * count for count in one.counts]


@given(a=VALUES, b=VALUES)
def test_keys_order_as_their_values_do(a: float, b: float) -> None:
    small, large = sorted((a, b))
    first, second = keys_of(np.array([small, large])).tolist()
    assert first <= second
    assert value_of(first) <= value_of(second)
    assert (first > 0) - (first < 0) == (small > 0) - (small < 0)


def test_nothing_counted_has_no_quantile() -> None:
    assert counted().quantile(0.5) is None
    assert counted([]).quantile(0.5) is None


def test_counts_beyond_32_bits_are_added_up() -> None:
    whole = Quantiles()
    for _ in range(3):
        whole.unite([40_000, 41_000], [2**40, 1])
    assert whole.counts.tolist() == [3 * 2**40, 3]
    assert whole.quantile(0.5) == near(1)


def test_a_bucket_holds_no_more_than_is_packed_of_it() -> None:
    (whole,) = quantiles.counted(np.ones(4), [4], np.full(4, 2**53))
    for _ in range(3):
        whole.unite(whole.keys, whole.counts)
    assert whole.counts.tolist() == [2**46 - 1]
    assert unpacked(whole.packed)[1].tolist() == [2**46 - 1]


WEIGHTED = some.lists(some.tuples(VALUES, some.integers(1, 5)), max_size=9)


@given(some.lists(WEIGHTED, max_size=5))
def test_a_weight_is_so_many_values(parts: list[list[tuple[float, int]]]) -> None:
    weighted = quantiles.counted(
        np.array([value for part in parts for value, _ in part]),
        [len(part) for part in parts],
        np.array([weight for part in parts for _, weight in part], np.int64),
    )
    repeated = [[value for value, weight in part for _ in range(weight)] for part in parts]
    values = [value for part in repeated for value in part]
    plain = quantiles.counted(np.array(values), [*map(len, repeated)])
    assert [one.packed for one in weighted] == [one.packed for one in plain]


@given(values=some.lists(VALUES), times=some.integers(1, 2**46 - 1))
def test_what_is_packed_is_the_same_unpacked(values: list[float], times: int) -> None:
    one = counted(values)
    one.counts[:1] = times
    keys, counts = unpacked(one.packed)
    assert keys.tolist() == one.keys.tolist()
    assert counts.tolist() == one.counts.tolist()


def test_a_count_beyond_what_is_packed_is_the_most_there_is() -> None:
    for key in (-75_500, 0, 75_500):
        keys, counts = unpacked(Quantiles(np.array([key]), np.array([2**62])).packed)
        assert (keys.tolist(), counts.tolist()) == ([key], [2**46 - 1])
