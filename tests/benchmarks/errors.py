"""How far what is estimated is from the truth: people of sketches, quantiles of log-spaced buckets.

Each is counted at once, and united from the hours of a month.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregation.quantiles import Quantiles, counted, unpacked
from aggregation.sketches import Distinct

HOURS = 720
PEOPLE = (100, 1_000, 10_000, 100_000, 1_000_000)
# How often each number of people is tried.
MOST_RUNS, FEWEST_RUNS, COUNTED = 100, 10, 2_000_000
SAMPLES = 1_000_000
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
# HyperLogLog's is 1.6 % with as many registers (1.04 / √4096), of so few runs a little more.
MOST_OF_PEOPLE, MOST_OF_QUANTILES = 0.02, 0.01

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Errors relative to the truth, of some runs or of some quantiles."""

    of: str
    at_once: list[float]
    united: list[float]


def people() -> Iterator[Errors]:
    """Of each number of people, each of whom is there in two hours of the month."""
    random = np.random.default_rng(1)
    for number in PEOPLE:
        at_once, united = [], []
        for _ in range(max(FEWEST_RUNS, min(MOST_RUNS, COUNTED // number))):
            hashes = random.integers(-(2**63), 2**63, number)
            at_once.append(_of_people(hashes).count / number - 1)
            united.append(_of_hours(hashes, random).count / number - 1)
        yield Errors(f"{number:,}", at_once, united)


def _of_people(hashes: NDArray[np.int64]) -> Distinct:
    distinct = Distinct()
    distinct.add(hashes.tobytes())
    return distinct


def _of_hours(hashes: NDArray[np.int64], random: np.random.Generator) -> Distinct:
    whole = Distinct()
    for shift in (0, 1):
        for hour in np.array_split(np.roll(hashes, shift * random.integers(len(hashes))), HOURS):
            if len(hour):
                whole.unite(_of_people(hour).sketch)
    return whole


def quantiles() -> Iterator[Errors]:
    """Of each kind of samples, the errors of `SHARES`."""
    random = np.random.default_rng(2)
    low, high = random.normal(10, 1, SAMPLES // 2), random.normal(200, 20, SAMPLES // 2)
    samples = {
        "log-normal, σ = 1": random.lognormal(3, 1, SAMPLES),
        "uniform, 0 to 100": random.uniform(0, 100, SAMPLES),
        "bimodal, around 10 and 200": random.permutation(np.concatenate((low, high))),
    }
    for name, values in samples.items():
        exact = np.sort(values)
        yield Errors(
            name, *([_error(found, exact, share) for share in SHARES.values()]
                    for found in (_united(values, 1), _united(values, HOURS))),
        )  # fmt: skip


def _united(values: Floats, parts: int) -> Quantiles:
    """Counted in so many parts, each packed and unpacked as it is stored."""
    whole = Quantiles()
    for part in counted(values, [len(part) for part in np.array_split(values, parts)]):
        whole.unite(*unpacked(part.packed))
    return whole


def _error(found: Quantiles, exact: Floats, share: float) -> float:
    value = found.quantile(share)
    assert value is not None
    return float(value / exact[math.floor(share * (len(exact) - 1))] - 1)


def spread(errors: list[float]) -> float:
    """The root of their mean square."""
    return math.sqrt(math.fsum(error * error for error in errors) / len(errors))


def tables(of_people: list[Errors], of_quantiles: list[Errors]) -> list[str]:
    """Both, for the page."""
    shares = " | ".join(SHARES)
    return [
        f"People, each in two of {HOURS} hours (`aggregation/sketches.py`): relative error, its "
        "root mean square and the worst of all runs.",
        "",
        "| people | runs | counted at once | worst | united | worst |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {one.of} | {len(one.at_once)} | "
            + " | ".join(
                f"{spread(errors):.2%} | {max(map(abs, errors)):.2%}"
                for errors in (one.at_once, one.united)
            )
            + " |"
            for one in of_people
        ),
        "",
        f"Quantiles of {SAMPLES:,} samples, counted at once and united from {HOURS} hours "
        "(`aggregation/quantiles.py`): relative error.",
        "",
        f"| samples | at once: {shares} | united: {shares} |",
        "| --- |" + " ---: |" * 2 * len(SHARES),
        *(
            f"| {one.of} | "
            + " | ".join(f"{abs(error):.2%}" for error in one.at_once + one.united)
            + " |"
            for one in of_quantiles
        ),
    ]  # fmt: skip
