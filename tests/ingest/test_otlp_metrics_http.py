"""OTLP's metrics over HTTP: as its logs (`test_otlp_http`), with data points for items."""

import time
from typing import Any

import pytest
from google.rpc.code_pb2 import Code
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from ingest.models import MetricPoint
from tests.harness import Project, Service, wait_for
from tests.ingest.exporting import accounting, export, refused, told
from tests.ingest.otlp import JSON, PROTOBUF, attributes, metrics
from tests.ingest.sending import STORING_SECONDS
from tests.ingest.traces import ledger, traces

PATH = "/otlp/v1/metrics"
every_encoding = pytest.mark.parametrize("encoding", [PROTOBUF, JSON])


def gauge(name: str, *values: float, **own: Any) -> Metric:
    """A gauge of now, a point a value."""
    now = time.time_ns()
    points = [
        {"as_double": value, "time_unix_nano": now + place, "attributes": attributes(own)}
        for place, value in enumerate(values)
    ]
    return Metric(name=name, gauge={"data_points": points})


def stored(project: Project, number: int) -> list[MetricPoint]:
    rows = MetricPoint.objects.filter(project__slug=project.project)
    wait_for(lambda: rows.count() >= number, STORING_SECONDS, f"{number} points to be stored")
    found = list(rows.order_by("occurred_at", "position"))
    assert len(found) == number
    return found


@every_encoding
def test_points_are_stored(service: Service, project: Project, encoding: str) -> None:
    user = f"user-of-{encoding}"
    request = metrics(
        gauge("queue", 4, 5, **{"user.id": user, "queue": "mail"}),
        resource={"service.name": "shop", "service.instance.id": "eu-1"},
    )
    answer = export(service, project, request, encoding, PATH)
    assert answer.status == 200
    assert not told(answer, encoding, ExportMetricsServiceResponse).HasField("partial_success")
    first, second = stored(project, 2)
    assert (first.name, first.kind, first.value, second.value) == ("queue", "gauge", 4, 5)
    assert (first.node, first.tags) == ("eu-1", {"queue": "mail", "service.name": "shop"})
    assert first.subject is not None
    assert traces(service, user) == []


def test_a_request_sent_again_is_a_duplicate(service: Service, project: Project) -> None:
    request = metrics(gauge("queue", *range(1500)), gauge("bad", float("nan")))
    for _ in range(2):
        answer = export(service, project, request, path=PATH)
        partial = told(answer, kind=ExportMetricsServiceResponse).partial_success
        assert partial.rejected_data_points == 1
        assert partial.error_message.startswith("1 of 1501 rejected; data_points[1500]: ")
    assert [(row.received, row.rejected) for row in ledger(project)] == [(1000, 0), (501, 1)] * 2
    stored(project, 1500)
    (line,) = accounting(service, project)
    counts = {name: line[name] for name in ("received", "stored", "duplicate", "rejected")}
    assert line["format"] == "otlp_metrics"
    assert counts == {"received": 3002, "stored": 1500, "duplicate": 1500, "rejected": 2}


@every_encoding
def test_where_all_are_bad_nothing_is_a_success(
    service: Service, project: Project, encoding: str
) -> None:
    answer = export(service, project, metrics(gauge("", 1)), encoding, PATH)
    status = refused(answer, 400, Code.INVALID_ARGUMENT, encoding)
    assert "data_points[0]: " in status.message
    (row,) = ledger(project)
    assert (row.format, row.received, row.rejected) == ("otlp_metrics", 1, 1)


def test_what_is_no_request(service: Service, project: Project) -> None:
    refused(export(service, project, b"{", JSON, PATH), 400, Code.INVALID_ARGUMENT, JSON)
    refused(export(service, project, b"\x0a", PROTOBUF, PATH), 400, Code.INVALID_ARGUMENT)
