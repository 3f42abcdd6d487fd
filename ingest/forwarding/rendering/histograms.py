"""Samples as OpenTelemetry's histograms: exact while they are few, of known error beyond. Pure."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
)

from ingest.forwarding.rendering.rows import PointRow

# Bounds of an exact histogram. OpenTelemetry's own exponential histograms have as many buckets at
# the most, and the strictest backends take two hundred.
MOST_BOUNDS = 160
# 2**6 buckets from a number to its double: their middle is 0.54 % from anything in them.
SCALE = 6
# Of one sign, empty ones between among them. So many reach from 1 to 1.8e19 at this scale.
MOST_BUCKETS = 4096


def is_exact(samples: Sequence[float]) -> bool:
    """Whether a histogram of these samples says each of them."""
    return len(samples) <= MOST_BOUNDS or len(set(samples)) <= MOST_BOUNDS


def set_exact(point: HistogramDataPoint, row: PointRow) -> None:
    """Let each sample be the upper bound of a bucket, which belongs to the bucket."""
    counts = _counts(row)
    _set_sums(point, row, counts)
    bounds = sorted(counts)
    point.explicit_bounds.extend(bounds)
    point.bucket_counts.extend([counts[bound] for bound in bounds])
    # Beyond the last bound there is nothing.
    point.bucket_counts.append(0)


def set_exponential(point: ExponentialHistogramDataPoint, row: PointRow) -> None:
    """Count the samples in buckets, at the finest scale that there are few enough at."""
    counts = _counts(row)
    _set_sums(point, row, counts)
    positive, negative = _buckets(counts, 1), _buckets(counts, -1)
    halvings = max(_halvings(positive), _halvings(negative))
    point.scale = SCALE - halvings
    point.zero_count = counts.get(0.0, 0)
    _lay_out(point.positive, positive, halvings)
    _lay_out(point.negative, negative, halvings)


def set_unbucketed(point: HistogramDataPoint, row: PointRow) -> None:
    """Say what is known without samples, or of a summary: a histogram needs no buckets."""
    point.count = row.count or 0
    point.sum = row.sum or 0.0
    if row.min is not None and row.max is not None:
        point.min, point.max = row.min, row.max


def _counts(row: PointRow) -> dict[float, int]:
    samples = row.samples or []
    if row.weights is None:
        return Counter(samples)
    counts: dict[float, int] = defaultdict(int)
    for sample, weight in zip(samples, row.weights, strict=True):
        counts[sample] += weight
    return counts


def _set_sums(
    point: HistogramDataPoint | ExponentialHistogramDataPoint,
    row: PointRow,
    counts: dict[float, int],
) -> None:
    """Say how many there are, and the extremes and sum that were measured or follow from them."""
    point.count = sum(counts.values())
    point.min = min(counts) if row.min is None else row.min
    point.max = max(counts) if row.max is None else row.max
    total = row.sum
    if total is None:
        total = sum(sample * count for sample, count in counts.items())
    # Of negative samples the protocol wants none, and there are sums that no float holds.
    if point.min >= 0 and math.isfinite(total):
        point.sum = total


def _buckets(counts: dict[float, int], sign: int) -> dict[int, int]:
    """How many samples of a sign are in each bucket that has some."""
    buckets: dict[int, int] = defaultdict(int)
    for sample, count in counts.items():
        if (size := sign * sample) > 0:
            # Upper bounds belong to their buckets.
            buckets[math.ceil(math.log2(size) * 2**SCALE) - 1] += count
    return buckets


def _halvings(buckets: dict[int, int]) -> int:
    """How often pairs of buckets must become one until there are few enough."""
    if not buckets:
        return 0
    first, last = min(buckets), max(buckets)
    halvings = 0
    while (last >> halvings) - (first >> halvings) >= MOST_BUCKETS:
        halvings += 1
    return halvings


def _lay_out(
    target: ExponentialHistogramDataPoint.Buckets, buckets: dict[int, int], halvings: int
) -> None:
    if not buckets:
        return
    target.offset = min(buckets) >> halvings
    laid_out = [0] * ((max(buckets) >> halvings) - target.offset + 1)
    for index, count in buckets.items():
        laid_out[(index >> halvings) - target.offset] += count
    target.bucket_counts.extend(laid_out)
