"""Metrics, `POST /otlp/v1/metrics`, as OpenTelemetry's SDKs and collectors send them. Pure.

Each data point is one point, and one item for who is told what became of it.

- A sum that only grows is a counter: of deltas, or cumulative. One that goes both ways is a gauge
  where it is cumulative, and a meter of deltas, which add up.
- A gauge is a gauge. Histograms of either kind are histograms of weighted samples
  (`histograms.py`), deltas or cumulative. A summary is a summary, cumulative if it says since when.
- What is cumulative keeps since when: there a stream begins anew, and only there. A histogram that
  doesn't say can't be told from one that was counted already, and is refused.
- A point's attributes are its tags: texts, numbers and booleans, lists and objects as their JSON.
  Beside them stand `service.name` and, as `otel.scope.name`, the scope. `service.instance.id`, else
  `host.name`, is the node. `user.id` or `enduser.id` says whom a point is of; neither it nor
  `session.id` is a tag.
- Descriptions, units and exemplars are not kept.

Our own exports say what is no such form in a metric's metadata, and need no tag for where they are
from.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    AGGREGATION_TEMPORALITY_DELTA,
    DataPointFlags,
    Metric,
    NumberDataPoint,
)

from ingest.formats import fields
from ingest.formats.json_values import check_text, check_values
from ingest.formats.metrics import MOST_TAGS
from ingest.formats.otlp import histograms
from ingest.formats.otlp.attributes import SESSION, USERS, Source, Values, source
from ingest.formats.otlp.frames import METRICS, MOST_ITEMS, Group, groups
from ingest.formats.otlp.items import ESCAPED_NUL, message, moment
from ingest.records import (
    DecodedBatch,
    Envelope,
    InvalidRecord,
    Limits,
    MalformedBatch,
    Point,
    Rejection,
)

SERVICE, SCOPE = "service.name", "otel.scope.name"
NODES = ("service.instance.id", "host.name")
# In the metadata of our own exports' metrics: the kind, where its form is another's.
KIND = "client_telemetry.kind"
_OWN_KINDS = (("gauge", "meter"), ("histogram", "summary"))
# What they say a delta began before its time, in nanoseconds.
_INSTANT = 1_000

# A metric holds many points. As it is written it may have a megabyte.
_METRIC_BYTES = 256 * 1024
_SAMPLE_BYTES = 16
_NO_TAGS = b"{}"
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class _Series:
    """What a metric says of all of its points, and who sent it."""

    whole: Source
    metric: Metric
    name: str
    kind: str
    cumulative: bool


# What a data point becomes, and so much of the body. Its place is that in a batch later.
_Item = tuple[Point | Rejection, int]


def decode(body: bytes, encoding: str, envelope: Envelope) -> Iterator[DecodedBatch]:
    """The points of a request in batches, in order.

    Raises MalformedBatch where the request can't be taken at all, and then before any batch.
    """
    reader = _Reader(encoding, envelope)
    found: list[_Item] = []
    for group in groups(body, encoding, METRICS):
        for item in reader.items(group):
            found.append(item)
            if len(found) > MOST_ITEMS:
                raise MalformedBatch(
                    "too_many_events", f"The request holds more than {MOST_ITEMS} data points."
                )
    left = iter(found)
    while several := list(islice(left, envelope.limits.batch_events)):
        yield _batch(several)


class _Reader:
    """Reads the metrics of one request."""

    def __init__(self, encoding: str, envelope: Envelope) -> None:
        self._encoding = encoding
        self._envelope = envelope
        self._limits = envelope.limits
        self._long = replace(envelope.limits, event_bytes=_METRIC_BYTES)
        self._values = Values(envelope.limits)

    def items(self, group: Group) -> Iterator[_Item]:
        """The points of a group. A metric that can't be read is one item.

        Nothing of a metric is held once its points are read: parsed it may be forty times as large
        as it was written.
        """
        try:
            whole: Source | InvalidRecord = source(group, self._encoding, self._values)
        except InvalidRecord as reason:
            whole = reason
        for item in group.items:
            try:
                metric = message(Metric, item, self._encoding, self._long)
            except InvalidRecord as reason:
                yield _rejected(reason), len(item)
                continue
            series, points = self._series(whole, metric), _points(metric)
            for point in points:
                yield self._read(series, point), len(item) // len(points)

    def _series(self, whole: Source | InvalidRecord, metric: Metric) -> _Series | InvalidRecord:
        if isinstance(whole, InvalidRecord):
            return whole
        try:
            name = fields.required(fields.word(metric.name, "name", self._limits), "name")
            check_text(name)
            kind, cumulative = _kind(metric)
            if whole.is_ours:
                told = self._values.mapping(metric.metadata).get(KIND)
                sent = (metric.WhichOneof("data"), told)
                kind = next((own for form, own in _OWN_KINDS if (form, own) == sent), kind)
        except InvalidRecord as reason:
            return reason
        return _Series(whole, metric, name, kind, cumulative)

    def _read(self, series: _Series | InvalidRecord, sent: Any) -> Point | Rejection:
        """What a data point becomes."""
        try:
            if isinstance(series, InvalidRecord):
                raise series.with_traceback(None)
            return self._point(series, sent)
        except InvalidRecord as reason:
            return _rejected(reason)

    def _point(self, series: _Series, sent: Any) -> Point:
        if sent.flags & DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK:
            raise InvalidRecord("no_value", "The data point says that nothing was recorded")
        whole, limits = series.whole, self._limits
        own = self._values.mapping(sent.attributes)
        user_id = self._values.taken(USERS, own) or whole.user_id or self._envelope.user_id
        own.pop(SESSION, None)
        point = Point(
            0,
            0,
            moment(sent.time_unix_nano),
            series.name,
            series.kind,
            user_id,
            _node(whole, limits),
            self._tags(own, whole),
            series.cumulative,
        )
        self._check_buckets(series, sent)
        _measure(point, series, sent)
        size = _kept(point)
        if size > limits.event_bytes:
            raise InvalidRecord(
                "event_too_large", f"A data point is larger than {limits.event_bytes} bytes"
            )
        self._values.keep(len(point.tags))
        return point

    def _check_buckets(self, series: _Series, sent: Any) -> None:
        """Before any is worked out: that takes microseconds, and one may be a byte of the body."""
        count, most = _buckets(series.metric, sent), self._limits.event_bytes // _SAMPLE_BYTES
        if count > most:
            raise InvalidRecord(
                "event_too_large", f"A data point may have at most {most} buckets or quantiles"
            )
        self._values.keep(_SAMPLE_BYTES * count)

    def _tags(self, own: dict[str, Any], whole: Source) -> bytes:
        if len(own) > MOST_TAGS:
            raise InvalidRecord(
                "too_many_tags", f"A data point may have at most {MOST_TAGS} attributes"
            )
        if not whole.is_ours:
            own = {SERVICE: whole.attributes.get(SERVICE), SCOPE: whole.scope} | own
        tags = {
            name: _encode(value).decode() if isinstance(value, dict | list) else value
            for name, value in own.items()
            if value is not None
        }
        text = _encode(tags) if tags else _NO_TAGS
        if ESCAPED_NUL in text:
            check_values(tags, self._limits)
        return text


def _rejected(reason: InvalidRecord) -> Rejection:
    return Rejection(0, reason.code, reason.message, reason.field)


def _batch(items: list[_Item]) -> DecodedBatch:
    """The points of some items, and why each other one is refused."""
    points: list[Point] = []
    rejections: list[Rejection] = []
    for index, (found, _) in enumerate(items):
        if isinstance(found, Point):
            found.position = index
            points.append(found)
        else:
            rejections.append(msgspec.structs.replace(found, index=index))
    sent, kept = sum(size for _, size in items), sum(map(_kept, points))
    return DecodedBatch(points, rejections, named_by_content=True, body_bytes=max(sent, kept))


def _kept(point: Point) -> int:
    """Bytes of a point's tags and samples."""
    return len(point.tags) + _SAMPLE_BYTES * len(point.samples or ())


def _points(metric: Metric) -> Sequence[Any]:
    """A metric's points, whatever they are."""
    form = metric.WhichOneof("data")
    return getattr(metric, form).data_points if form else ()


def _kind(metric: Metric) -> tuple[str, bool]:
    """The kind of a metric's points, and whether they are cumulative."""
    form = metric.WhichOneof("data")
    if form is None or form in ("gauge", "summary"):
        # Of no form there are no points.
        return form or "gauge", False
    data = getattr(metric, form)
    if data.aggregation_temporality not in (
        AGGREGATION_TEMPORALITY_DELTA,
        AGGREGATION_TEMPORALITY_CUMULATIVE,
    ):
        raise InvalidRecord(
            "invalid_temporality",
            "aggregation_temporality must be delta (1) or cumulative (2)",
            "aggregation_temporality",
        )
    cumulative = data.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    if form != "sum":
        return "histogram", cumulative
    if data.is_monotonic:
        return "counter", cumulative
    return ("gauge", False) if cumulative else ("meter", False)


def _node(whole: Source, limits: Limits) -> str | None:
    found = (fields.identifier(whole.attributes.get(name), name, limits) for name in NODES)
    return next(filter(None, found), None)


def _buckets(metric: Metric, sent: Any) -> int:
    """How many of a data point aren't empty; of a summary all of its quantiles."""
    form = metric.WhichOneof("data")
    if form == "exponential_histogram":
        return sum(map(bool, sent.negative.bucket_counts)) + sum(
            map(bool, sent.positive.bucket_counts)
        )
    if form == "histogram":
        return sum(map(bool, sent.bucket_counts))
    return len(sent.quantile_values) if form == "summary" else 0


def _measure(point: Point, series: _Series, sent: Any) -> None:
    """Fill in what was measured, and since when where that is cumulative."""
    form = series.metric.WhichOneof("data")
    if form == "summary":
        # From Prometheus, where they are so; ours may be deltas.
        start = sent.start_time_unix_nano
        delta = series.whole.is_ours and sent.time_unix_nano - start == _INSTANT
        point.cumulative = start > 0 and not delta
    if point.cumulative:
        point.started_at = moment(sent.start_time_unix_nano)
        _check_start(point)
    if form == "summary":
        histograms.summary(point, sent)
    elif form == "exponential_histogram":
        histograms.exponential(point, sent)
    elif form == "histogram" and point.kind == "summary":
        histograms.unbucketed(point, sent)
    elif form == "histogram":
        histograms.explicit(point, sent, bounds_are_samples=series.whole.is_ours)
    else:
        point.value = _number(sent)
        if point.kind == "counter" and point.value < 0:
            raise InvalidRecord("invalid_value", "A sum that only grows must not be negative")


def _check_start(point: Point) -> None:
    if point.started_at is None and point.kind == "histogram":
        raise InvalidRecord(
            "missing_field",
            "A cumulative histogram must have a start_time_unix_nano, or send deltas "
            "(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta)",
            "start_time_unix_nano",
        )
    if point.started_at and point.occurred_at and point.started_at > point.occurred_at:
        raise InvalidRecord(
            "invalid_timestamp",
            "start_time_unix_nano must not be later than time_unix_nano",
            "start_time_unix_nano",
        )


def _number(sent: NumberDataPoint) -> float:
    kind = sent.WhichOneof("value")
    if kind is None:
        raise InvalidRecord("missing_field", "A data point must have a value", "value")
    value = float(getattr(sent, kind))
    if not math.isfinite(value):
        raise InvalidRecord("number_out_of_range", "A value is not finite", "value")
    return value
