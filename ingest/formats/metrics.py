"""Metrics, `POST /v1/metrics` (source 003): a batch, a bare list, or one bare metric. Pure.

`{"node_id"?, "batch_id"?, "timestamp"?, "user_id"?, "temporality"?, "metrics": [{"name", "type",
"value", "timestamp"?, "tags"?, "node_id"?, "user_id"?, "temporality"?}]}`. What a metric says of
its node, user and temporality wins over the batch, and the batch over `X-User-ID`.

- `temporality` is that of counters. A batch may say `cumulative` for all of its counters; a gauge,
  meter, histogram or summary that says so of itself is refused.
- A whole number is taken for the milliseconds of a `timestamp` and for the digits of an id.
- `tags` are strings, numbers or booleans, at most 50. Their text has its keys in order, so that one
  series is always written in one way.
- Fields that are not named here are ignored, on the batch, on a metric and in a summary.
"""

from datetime import UTC, datetime
from functools import cache, partial
from typing import Annotated, Any, Literal

import msgspec

from ingest.formats import fields
from ingest.formats.items import blaming_the_batch, one_by_one, take_apart
from ingest.formats.json_values import check_values, load
from ingest.formats.measurements import SUMMARY, measure
from ingest.records import KINDS, DecodedBatch, Envelope, InvalidRecord, Limits, Point

MOST_TAGS = 50

_MARKS = ("name", "type", "value")
_TEMPORALITIES = ("cumulative", "delta")
_NO_TAGS = b"{}"
_encode = msgspec.json.Encoder(order="deterministic").encode


class _Metric(msgspec.Struct):
    """One metric whose fields are what they may be, but for its value."""

    name: str
    type: str
    value: Any
    timestamp: datetime | int | None
    tags: dict[str, Any] | None
    node_id: str | int | None
    user_id: str | int | None
    temporality: str | None


class _Defaults(msgspec.Struct, frozen=True):
    """What the batch says for those of its metrics that don't say it themselves."""

    user_id: str | None
    node: str | None
    cumulative: bool


def decode(body: bytes, envelope: Envelope) -> DecodedBatch:
    """The points of a body, one a metric, and why each other metric was refused.

    Raises MalformedBatch where the body or its envelope can't be taken at all.
    """
    limits = envelope.limits
    value, clean = load(body, limits)
    content = take_apart(value, "metrics", _MARKS, limits)
    with blaming_the_batch():
        check_values(content.batch, limits)
        decoded = _batch(content.batch, envelope)
        cumulative = _temporality(content.batch) == "cumulative"
    defaults = _Defaults(decoded.user_id or envelope.user_id, decoded.node, cumulative)
    points = all_at_once(content.items, defaults, limits) if clean else None
    if points is None:
        read = partial(_checked_point, defaults=defaults, limits=limits)
        points, decoded.rejections = one_by_one(content.items, read, "A metric", clean, limits)
    decoded.records = points
    if content.single is not None and points:
        decoded.user_id = fields.digits(content.single.get("user_id")) or None
        decoded.node = points[0].node
    return decoded


def all_at_once(metrics: list[Any], defaults: _Defaults, limits: Limits) -> list[Point] | None:
    """The points of good metrics, for a fraction of what each costs by itself.

    None where anything is wrong or not known here: then each metric is looked at by itself, and
    that is where the rules are written down.
    """
    try:
        good = msgspec.convert(metrics, _good_metrics(limits.name_length))
        return [_point(index, metric, defaults, limits) for index, metric in enumerate(good)]
    except (msgspec.ValidationError, InvalidRecord, OverflowError):
        return None


@cache
def _good_metrics(name_length: int) -> Any:
    """The type of a list of good metrics; no value of it can be nested deeply."""
    name = Annotated[str, msgspec.Meta(max_length=name_length)]
    number = int | float
    summary = dict[Literal[tuple(sorted(SUMMARY))], number | None]  # type: ignore[misc, valid-type]
    tags = dict[name, str | number | bool]
    known: list[Any] = [
        ("name", Annotated[str, msgspec.Meta(min_length=1, max_length=name_length)]),
        ("type", Literal[tuple(sorted(KINDS))]),
        ("value", number | list[number] | summary),
        ("timestamp", datetime | int | None, None),
        ("tags", Annotated[tags, msgspec.Meta(max_length=MOST_TAGS)] | None, None),
        ("node_id", name | int | None, None),
        ("user_id", name | int | None, None),
        ("temporality", Literal[_TEMPORALITIES] | None, None),
    ]
    return list[msgspec.defstruct("Good", known, forbid_unknown_fields=True)]  # type: ignore[misc]


def _batch(batch: dict[str, Any], envelope: Envelope) -> DecodedBatch:
    """The batch, as yet without its points."""
    limits = envelope.limits
    return DecodedBatch(
        [],
        [],
        batch_id=fields.uuid(batch.get("batch_id"), "batch_id") or envelope.batch_id,
        sent_at=_moment(batch),
        user_id=fields.identifier(batch.get("user_id"), "user_id", limits),
        node=fields.identifier(batch.get("node_id"), "node_id", limits),
    )


def _checked_point(
    index: int, metric: dict[str, Any], defaults: _Defaults, limits: Limits
) -> Point:
    """One metric's point."""
    name = fields.word(metric.get("name"), "name", limits)
    kind = fields.one_of(metric.get("type"), "type", KINDS, "invalid_metric_type")
    checked = _Metric(
        name=fields.required(name, "name"),
        type=fields.required(kind, "type"),
        value=metric.get("value"),
        timestamp=_moment(metric),
        tags=_tags(metric.get("tags")),
        node_id=fields.identifier(metric.get("node_id"), "node_id", limits),
        user_id=fields.identifier(metric.get("user_id"), "user_id", limits),
        temporality=_temporality(metric),
    )
    return _point(index, checked, defaults, limits)


def _point(index: int, metric: _Metric, defaults: _Defaults, limits: Limits) -> Point:
    """The point of a metric whose fields are what they may be."""
    moment = metric.timestamp
    if isinstance(moment, int):
        moment = fields.moment_or_milliseconds(moment, "timestamp")
    point = Point(
        index,
        0,
        moment if moment is None or moment.tzinfo is UTC else fields.in_utc(moment),
        metric.name,
        metric.type,
        fields.digits(metric.user_id) or defaults.user_id,
        fields.digits(metric.node_id) or defaults.node,
        _encode(metric.tags) if metric.tags else _NO_TAGS,
        _is_cumulative(metric, defaults),
    )
    measure(point, metric.value, limits)
    return point


def _is_cumulative(metric: _Metric, defaults: _Defaults) -> bool:
    if metric.type == "counter":
        return metric.temporality == "cumulative" if metric.temporality else defaults.cumulative
    if metric.temporality == "cumulative":
        raise InvalidRecord(
            "invalid_temporality", "Only a counter can be cumulative", "temporality"
        )
    return False


def _temporality(holder: dict[str, Any]) -> str | None:
    return fields.one_of(
        holder.get("temporality"), "temporality", _TEMPORALITIES, "invalid_temporality"
    )


def _moment(holder: dict[str, Any]) -> datetime | None:
    return fields.when_given(holder.get("timestamp"), "timestamp", fields.moment_or_milliseconds)


def _tags(tags: Any) -> dict[str, Any] | None:
    if tags is None:
        return None
    if not isinstance(tags, dict):
        raise InvalidRecord("invalid_type", "tags must be an object", "tags")
    if len(tags) > MOST_TAGS:
        raise InvalidRecord("too_many_tags", f"A metric may have at most {MOST_TAGS} tags", "tags")
    if not all(isinstance(value, str | int | float) for value in tags.values()):
        raise InvalidRecord(
            "invalid_type", "The value of a tag must be a string, number or boolean", "tags"
        )
    return tags
