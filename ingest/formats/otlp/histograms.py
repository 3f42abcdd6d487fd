"""Histograms and summaries of OTLP: from counts of buckets to weighted samples. Pure.

A bucket is one sample of so many measurements: the geometric middle of its bounds, from which
nothing in it is further away than the root of their ratio. Of the last bucket, which has no end, it
is where that begins. A bucket at 0, whose ratio has no end, has the middle between its bounds. What
stands for a bucket is never beyond what was measured least and most, where that is said.

A cumulative histogram's samples don't follow its extremes: a bucket must be the same each time.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    SummaryDataPoint,
)

from ingest.records import InvalidRecord, Point

# More measurements than anybody makes; so many are exact as floats too.
MOST_COUNT = 2**53
# As OpenTelemetry's SDKs go from. Of the finest a bucket is a millionth wide.
SCALES = range(-10, 21)
# Exponents of two of the largest float, and of the smallest.
_LARGEST, _SMALLEST = 1023.999, -1074.0

_Counts = dict[float, int]


def explicit(point: Point, sent: HistogramDataPoint, bounds_are_samples: bool) -> None:
    """Fill in a histogram of explicit bounds; in those of our own exports they are the samples."""
    bounds, counts = sent.explicit_bounds, sent.bucket_counts
    if len(counts) != len(bounds) + 1 and (counts or bounds):
        raise _invalid("A histogram must have one bucket more than it has bounds", "bucket_counts")
    if not all(map(math.isfinite, bounds)) or any(a >= b for a, b in pairwise(bounds)):
        raise _invalid("Bounds must be finite and ascend", "explicit_bounds")
    if counts and sum(counts) != sent.count:
        raise _invalid("count must be the sum of all buckets", "count")
    if bounds:
        samples = [*bounds, bounds[-1]] if bounds_are_samples else _representatives(bounds)
        found = _added(zip(samples, counts, strict=True))
    else:
        found = _added([(_mean(sent), sent.count)])
    _fill(point, sent, found)


def exponential(point: Point, sent: ExponentialHistogramDataPoint) -> None:
    """Fill in a histogram of buckets that grow by a constant factor."""
    if sent.scale not in SCALES:
        raise _invalid(f"scale must be from {SCALES[0]} to {SCALES[-1]}", "scale")
    found = _added(
        [
            (0.0, sent.zero_count),
            *((-size, count) for size, count in _sizes(sent.negative, sent.scale)),
            *_sizes(sent.positive, sent.scale),
        ]
    )
    if sum(found.values()) != sent.count:
        raise _invalid("count must be the sum of all buckets", "count")
    _fill(point, sent, found)


def summary(point: Point, sent: SummaryDataPoint) -> None:
    """Fill in a summary: of its quantiles those of 0 and 1 are kept, which are its extremes."""
    point.count, point.sum = _count(sent.count), _finite(sent.sum, "sum")
    extremes = {quantile.quantile: quantile.value for quantile in sent.quantile_values}
    least, most = extremes.get(0.0, math.nan), extremes.get(1.0, math.nan)
    if not point.count or not math.isfinite(least) or not math.isfinite(most):
        return
    point.min, point.max = _ordered(least, most)


def unbucketed(point: Point, sent: HistogramDataPoint) -> None:
    """Fill in a summary that our own exporter has sent as a histogram without buckets."""
    point.count, point.sum = _count(sent.count), _finite(sent.sum, "sum")
    if point.count and sent.HasField("min") and sent.HasField("max"):
        point.min, point.max = _ordered(sent.min, sent.max)


def _fill(
    point: Point, sent: HistogramDataPoint | ExponentialHistogramDataPoint, found: _Counts
) -> None:
    point.count = _count(sent.count)
    if sent.HasField("sum"):
        point.sum = _finite(sent.sum, "sum")
    else:
        point.sum = _sum(found)
    if found:
        least, most = _ordered(
            sent.min if sent.HasField("min") else min(found),
            sent.max if sent.HasField("max") else max(found),
        )
        if not point.cumulative:
            found = _added((min(max(value, least), most), n) for value, n in found.items())
        point.min, point.max = least, most
    point.samples = sorted(found)
    point.weights = [found[sample] for sample in point.samples]


def _added(counts: Iterable[tuple[float, int]]) -> _Counts:
    """How often there is what stands for some buckets, of those that aren't empty."""
    found: _Counts = defaultdict(int)
    for value, count in counts:
        if count:
            found[value] += count
    return found


def _sum(found: _Counts) -> float:
    """What all of it adds up to, or the largest float where that is larger."""
    # As many as may be counted, each so much smaller, add up to a float.
    smaller, most = 2.0**64, sys.float_info.max
    total = math.fsum(value / smaller * count for value, count in found.items())
    return min(max(total, -most / smaller), most / smaller) * smaller


def _representatives(bounds: Sequence[float]) -> Iterator[float]:
    """What stands for each bucket: the first ends at the first bound, the last has no end."""
    yield bounds[0] / 2 if bounds[0] > 0 else bounds[0]
    for low, high in pairwise(bounds):
        if low > 0 or high < 0:
            yield math.copysign(math.sqrt(abs(low)) * math.sqrt(abs(high)), high)
        else:
            yield low / 2 + high / 2
    yield bounds[-1]


def _sizes(
    buckets: ExponentialHistogramDataPoint.Buckets, scale: int
) -> Iterator[tuple[float, int]]:
    """What stands for each bucket of one sign that isn't empty, and how many it has."""
    width = 2.0**-scale
    for index, count in enumerate(buckets.bucket_counts, buckets.offset):
        if not count:
            continue
        exponent = (index + 0.5) * width
        yield 2.0 ** min(max(exponent, _SMALLEST), _LARGEST), count


def _mean(sent: HistogramDataPoint) -> float:
    """All that is known of where something was measured without buckets."""
    return sent.sum / sent.count if sent.count and math.isfinite(sent.sum) else 0.0


def _count(value: int) -> int:
    if value > MOST_COUNT:
        raise _invalid("count must be at most 2^53", "count")
    return value


def _finite(value: float, field: str) -> float:
    if not math.isfinite(value):
        raise InvalidRecord("number_out_of_range", f"{field} is not finite or too large", field)
    return value


def _ordered(least: float, most: float) -> tuple[float, float]:
    if _finite(least, "min") > _finite(most, "max"):
        raise _invalid("min must not be larger than max", "min")
    return least, most


def _invalid(message: str, field: str) -> InvalidRecord:
    return InvalidRecord("invalid_value", message, field)
