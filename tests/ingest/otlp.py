"""Export requests as OpenTelemetry's SDKs send them, made with the official messages."""

import json
import time
from base64 import b64decode
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

PROTOBUF, JSON = "application/x-protobuf", "application/json"
TIME = 1_795_170_600_123_456_789  # 2026-11-20T10:30:00.123456789Z


def value(given: Any) -> AnyValue:
    """An AnyValue of what Python has."""
    if given is None:
        return AnyValue()
    if isinstance(given, dict):
        return AnyValue(kvlist_value={"values": attributes(given)})
    if isinstance(given, list):
        return AnyValue(array_value={"values": [value(item) for item in given]})
    kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
    return AnyValue(**{kinds.get(type(given), "bytes_value"): given})


def attributes(given: dict[str, Any]) -> list[KeyValue]:
    """Attributes of what Python has."""
    return [KeyValue(key=key, value=value(item)) for key, item in given.items()]


def log(body: Any = "done", own: dict[str, Any] | None = None, **fields: Any) -> LogRecord:
    """A log record, of a moment ago unless told otherwise."""
    whole = {"time_unix_nano": time.time_ns(), **fields}
    return LogRecord(body=value(body), attributes=attributes(own or {}), **whole)


def logs(
    *records: LogRecord, resource: dict[str, Any] | None = None, scope: str = ""
) -> ExportLogsServiceRequest:
    """A request of one resource and one scope."""
    request = ExportLogsServiceRequest()
    of_resource = request.resource_logs.add()
    of_resource.resource.attributes.extend(attributes(resource or {}))
    of_scope = of_resource.scope_logs.add()
    of_scope.scope.name = scope
    of_scope.log_records.extend(records)
    return request


def metrics(
    *sent: Metric, resource: dict[str, Any] | None = None, scope: str = ""
) -> ExportMetricsServiceRequest:
    """A request of one resource and one scope."""
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.extend(attributes(resource or {}))
    of_scope = of_resource.scope_metrics.add()
    of_scope.scope.name = scope
    of_scope.metrics.extend(sent)
    return request


def written(request: Message, encoding: str = PROTOBUF) -> bytes:
    """The request as a body."""
    if encoding == PROTOBUF:
        return request.SerializeToString()
    whole = MessageToDict(request)
    _write_ids(whole)
    return json.dumps(whole).encode()


def _write_ids(part: Any) -> None:
    """In OTLP's JSON the ids of traces and spans are hexadecimal."""
    if isinstance(part, list):
        for item in part:
            _write_ids(item)
    elif isinstance(part, dict):
        for name in part.keys() & {"traceId", "spanId"}:
            part[name] = b64decode(part[name]).hex()
        _write_ids(list(part.values()))
