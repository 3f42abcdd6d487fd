"""What came: a request, decoded strictly and by the official package alone."""

import base64
import gzip
import json
import time
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

LOGS, METRICS = "/v1/logs", "/v1/metrics"
PROTOBUF, JSON = "application/x-protobuf", "application/json"
REQUESTS = {LOGS: ExportLogsServiceRequest, METRICS: ExportMetricsServiceRequest}
# In OTLP/JSON these are hex, not the base64 that protobuf's own JSON has for bytes.
HEX = {"traceId", "spanId"}


@dataclass
class Received:
    """A request as it came: of a long run thousands are kept."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int  # the connections' numbers, from 1
    at: float = field(default_factory=time.monotonic)
    accepted: bool = False  # answered with 200, all of the answer written

    @property
    def request(self) -> Any:
        """The message. Raises ValueError where it is none, or has what OTLP doesn't know."""
        body, empty = self.plain, REQUESTS[self.path]()
        if self.headers["content-type"] == PROTOBUF:
            try:
                empty.ParseFromString(body)
            except DecodeError as error:
                raise ValueError(str(error)) from None
            return empty
        try:
            return json_format.ParseDict(_with_base64_ids(json.loads(body)), empty)
        except json_format.ParseError as error:
            raise ValueError(str(error)) from None

    @property
    def plain(self) -> bytes:
        """The body, unpacked."""
        encoding = self.headers.get("content-encoding", "identity")
        if encoding == "identity":
            return self.body
        if encoding != "gzip":
            raise ValueError(f"unknown content encoding {encoding}")
        try:
            return gzip.decompress(self.body)
        except (OSError, EOFError) as error:
            raise ValueError(str(error)) from None

    @property
    def records(self) -> list[LogRecord]:
        """Its log records, in order."""
        return [
            record
            for resource in self.request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    @property
    def metrics(self) -> list[Metric]:
        """Its metrics, in order."""
        return [
            metric
            for resource in self.request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]


def _with_base64_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: base64.b64encode(bytes.fromhex(item)).decode()
        if name in HEX
        else _with_base64_ids(item)
        for name, item in value.items()
    }
