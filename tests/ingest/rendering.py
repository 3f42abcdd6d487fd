"""Rows of stored events and points as they are rendered, and OpenTelemetry's attributes read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from ingest.forwarding.rendering.encoding import encode
from ingest.forwarding.rendering.logs import logs
from ingest.forwarding.rendering.metrics import metrics
from ingest.forwarding.rendering.rows import EventRow, PointRow
from ingest.records import Point, Record, microseconds

OCCURRED = 1_795_170_600_123_456
OBSERVED = OCCURRED + 2_000_000
PROJECT = "shop"


def event(**fields: Any) -> EventRow:
    """An event with nothing but what each has, changed by `fields`."""
    least = {
        **{"occurred_at": OCCURRED, "observed_at": OBSERVED, "name": "log"},
        **{"subject": None, "session": None, "category": "application", "level": None},
        **{"scope": None, "client_version": None, "message": None, "properties": b"{}"},
    }
    return EventRow(**least | fields)


def point(kind: str, **fields: Any) -> PointRow:
    """A point with nothing but what each has, changed by `fields`."""
    least = dict.fromkeys(PointRow.__struct_fields__) | {
        **{"occurred_at": OCCURRED, "name": "m", "kind": kind, "tags": b"{}", "cumulative": False}
    }
    return PointRow(**least | fields)


def event_of(record: Record) -> EventRow:
    """What is stored of a decoded event, in a year whose nanoseconds fit."""
    return event(
        occurred_at=abs(microseconds(record.occurred_at)) % 2**53,
        name=record.name,
        subject=record.user_id and record.user_id.encode().ljust(16)[:16],
        session=record.session_id and record.session_id.encode().ljust(16)[:16],
        category=record.category,
        level=record.level,
        scope=record.scope,
        client_version=record.client_version,
        message=record.message,
        properties=record.properties,
    )


def point_of(found: Point) -> PointRow:
    """What is stored of a decoded measurement, in a year whose nanoseconds fit."""
    return point(
        found.kind,
        occurred_at=abs(microseconds(found.occurred_at)) % 2**53 if found.occurred_at else OCCURRED,
        name=found.name,
        subject=found.user_id and found.user_id.encode().ljust(16)[:16],
        node=found.node,
        tags=found.tags,
        cumulative=found.cumulative,
        value=found.value,
        samples=found.samples,
        count=found.count,
        sum=found.sum,
        min=found.min,
        max=found.max,
    )


@dataclass(frozen=True)
class Rendered:
    """A log record or point, and what surrounds it. `metric` is None of a log record."""

    item: Any
    resource: dict[str, Any]
    scope: str
    metric: Any = None

    @property
    def attributes(self) -> dict[str, Any]:
        return read(self.item.attributes)


def sent(request: Message) -> Any:
    """What a collector reads of the request."""
    body, content_type = encode(request, "protobuf")
    assert content_type == "application/x-protobuf"
    return type(request).FromString(body)


def log_records(*rows: EventRow) -> list[Rendered]:
    """The log records that the events are sent as."""
    return [
        Rendered(record, read(group.resource.attributes), scope.scope.name)
        for group in sent(logs(PROJECT, rows)).resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]


def log_record(**fields: Any) -> LogRecord:
    """The log record of one event."""
    (rendered,) = log_records(event(**fields))
    found: LogRecord = rendered.item
    return found


def points(*rows: PointRow) -> list[Rendered]:
    """The points that the measurements are sent as."""
    return [
        Rendered(item, read(group.resource.attributes), scope.scope.name, metric)
        for group in sent(metrics(PROJECT, rows)).resource_metrics
        for scope in group.scope_metrics
        for metric in scope.metrics
        for item in getattr(metric, metric.WhichOneof("data")).data_points
    ]


def only_point(kind: str, **fields: Any) -> Rendered:
    """The point of one measurement."""
    (rendered,) = points(point(kind, **fields))
    return rendered


def read(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes by their names, each of which is there once."""
    found = [(attribute.key, _plain(attribute.value)) for attribute in attributes]
    assert len(dict(found)) == len(found)
    return dict(found)


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return read(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


def as_attribute(value: Any) -> Any:
    """A JSON value as an attribute has it: whole numbers have 63 bits there. Those of more than 64
    are floats, as PostgreSQL writes them."""
    if isinstance(value, dict):
        return {name: as_attribute(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_attribute(inner) for inner in value]
    if type(value) is not int or -(2**63) <= value < 2**63:
        return value
    return str(value) if 0 < value < 2**64 else float(value)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, and of one type throughout."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other
