"""Stored events as OpenTelemetry's log records (source 002's mapping; docs/otlp.md). Pure."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs

from ingest.forwarding.rendering.attributes import (
    PERSONAL,
    SESSION,
    USER,
    describe,
    renamed,
    set_all,
    set_text,
    set_value,
)
from ingest.forwarding.rendering.rows import EventRow

CATEGORY = "event.category"
REQUEST = "request.id"
# What it is called where browsers' events have it.
REQUEST_PROPERTY = "requestId"

_OURS = PERSONAL | {CATEGORY}
# Where the source named no severity of the kind, the smallest number of its range.
_SEVERITIES = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "information": 9,
    "informational": 9,
    "notice": 10,
    "warn": 13,
    "warning": 13,
    "error": 17,
    "critical": 18,
    "alert": 19,
    "fatal": 21,
    "emergency": 21,
}
_HEXADECIMAL = frozenset("0123456789abcdef")
_decode = msgspec.json.Decoder().decode


def logs(project_slug: str, rows: Sequence[EventRow]) -> ExportLogsServiceRequest:
    """The events of a project: a resource a client version, with its scopes."""
    request = ExportLogsServiceRequest()
    resources: dict[str | None, ResourceLogs] = {}
    scopes: dict[tuple[str | None, str | None], Callable[[], LogRecord]] = {}
    for row in rows:
        key = (row.client_version, row.scope)
        add = scopes.get(key)
        if add is None:
            resource = resources.get(row.client_version)
            if resource is None:
                resource = resources[row.client_version] = request.resource_logs.add()
                describe(resource.resource, project_slug, version=row.client_version)
            scope = resource.scope_logs.add()
            if row.scope is not None:
                scope.scope.name = row.scope
            add = scopes[key] = scope.log_records.add
        _fill(add(), row)
    return request


def _fill(record: LogRecord, row: EventRow) -> None:
    record.time_unix_nano = row.occurred_at * 1000
    record.observed_time_unix_nano = row.observed_at * 1000
    record.event_name = row.name
    if row.level is not None:
        record.severity_text, record.severity_number = _severity(row.level)
    properties = _decode(row.properties)
    if row.message is not None:
        record.body.string_value = row.message
    elif isinstance(properties.get("body"), dict | list):
        set_value(record.body, properties.pop("body"))
    _take_trace(record, properties)
    add = record.attributes.add
    if row.session is not None:
        set_text(add, SESSION, row.session.hex())
    if row.subject is not None:
        set_text(add, USER, row.subject.hex())
    set_text(add, CATEGORY, row.category)
    if REQUEST_PROPERTY in properties and REQUEST not in properties:
        properties[REQUEST] = properties.pop(REQUEST_PROPERTY)
    set_all(add, renamed(properties, _OURS))


def _take_trace(record: LogRecord, properties: dict[str, Any]) -> None:
    """Move the trace context to where it belongs; a span is nothing without its trace."""
    if trace_id := _identifier(properties.get("trace_id"), 32):
        record.trace_id = trace_id
        del properties["trace_id"]
        if span_id := _identifier(properties.get("span_id"), 16):
            record.span_id = span_id
            del properties["span_id"]


def _identifier(text: Any, digits: int) -> bytes | None:
    """The bytes of an id in lower-case hexadecimal digits; None for anything else, and for 0."""
    if not isinstance(text, str) or len(text) != digits or not _HEXADECIMAL.issuperset(text):
        return None
    return bytes.fromhex(text) if text.strip("0") else None


@lru_cache
def _severity(level: str) -> tuple[str, Any]:
    """Text and number of a level; of one that is not known, the text alone."""
    number = _SEVERITIES.get(level.lower(), 0)
    # As source 002 writes it. What a client wrote in capitals is left as it is.
    return (level.upper() if level in _SEVERITIES else level), number
