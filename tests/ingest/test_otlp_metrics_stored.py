"""OTLP's metrics on their road, from a request to the answers of `GET /v1/query/metrics`."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource

from aggregation.quantiles import ACCURACY
from ingest.models import MetricPoint
from ingest.records import microseconds
from tests.aggregation.placing import rolled_up
from tests.aggregation.planting import HOUR, answered, today
from tests.harness import Project, Service, wait_for
from tests.ingest.otlp import JSON, PROTOBUF, attributes, metrics, written
from tests.ingest.traces import project_id

MINUTE = timedelta(minutes=1)
# An hour that is over, and the one behind it.
START = today(1, 11)
STORED_SECONDS = 30
CUMULATIVE = 2


def store(service: Service, project: Project, *requests: Message, encoding: str = PROTOBUF) -> None:
    """Send these, one after the other, and wait until all of them are stored."""
    for request in requests:
        answer = service.request(
            "POST", "/otlp/v1/metrics", written(request, encoding),
            {"X-API-Key": project.ingest_key, "Content-Type": encoding},
        )  # fmt: skip
        assert answer.status == 200, answer
    wait_for(
        lambda: accounted(service, project)["waiting"] == 0, STORED_SECONDS, "points to be stored"
    )
    rolled_up(project)


def accounted(service: Service, project: Project) -> dict[str, int]:
    """What became of what was sent."""
    (line,) = answered(service, project, "accounting")["formats"]
    assert line["format"] == "otlp_metrics"
    counts: dict[str, int] = line
    return counts


def ask(service: Service, project: Project, aggregate: str, name: str = "m", **more: Any) -> Any:
    """The numbers of both hours."""
    answer = answered(
        service, project, "metrics", name=name, agg=aggregate, interval="hour",
        from_=START, to=START + 2 * HOUR, **more,
    )  # fmt: skip
    return answer["groups"][0]["values"]


def nanoseconds(moment: datetime) -> int:
    return microseconds(moment) * 1000


def counter(value: int, at: datetime, since: datetime) -> Message:
    point = {
        "as_int": value, "time_unix_nano": nanoseconds(at),
        "start_time_unix_nano": nanoseconds(since), "attributes": attributes({"route": "/"}),
    }  # fmt: skip
    held = {"data_points": [point], "is_monotonic": True, "aggregation_temporality": CUMULATIVE}
    return metrics(Metric(name="m", sum=held), resource={"service.name": "shop"})


class Sdk:
    """Instruments of OpenTelemetry's SDK for Python; what it exports is said to be of another
    time, so that no hour begins meanwhile."""

    def __init__(self, **reader: Any) -> None:
        self._reader = InMemoryMetricReader(**reader)
        resource = Resource({"service.name": "shop"})
        provider = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        self.meter = provider.get_meter("shop.orders")

    def export(self, at: datetime, since: datetime) -> Message:
        request = encode_metrics(self._reader.get_metrics_data())
        for metric in request.resource_metrics[0].scope_metrics[0].metrics:
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                assert point.start_time_unix_nano
                point.time_unix_nano = nanoseconds(at)
                point.start_time_unix_nano = nanoseconds(since)
        return request


@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
def test_a_restarted_counter_is_counted_on(
    service: Service, project: Project, encoding: str
) -> None:
    first, second = START + MINUTE, START + 20 * MINUTE
    store(
        service, project,
        counter(5, first + MINUTE, first),
        counter(8, first + 2 * MINUTE, first),
        # Further than it was when it went down.
        counter(11, second + MINUTE, second),
        counter(11, second + 2 * MINUTE, second),
        counter(14, second + 50 * MINUTE, second),
        encoding=encoding,
    )  # fmt: skip
    assert ask(service, project, "sum") == [8 + 11, 3]
    assert ask(service, project, "rate") == [pytest.approx(19 / 3600), pytest.approx(3 / 3600)]
    tags = {"tags": "service.name:shop", "group_by": "route"}
    answer = answered(service, project, "metrics", name="m", agg="sum", interval="day", **tags)
    assert [group["value"] for group in answer["groups"]] == ["/"]


def test_a_request_sent_again_is_a_duplicate(service: Service, project: Project) -> None:
    request = counter(5, START + 2 * MINUTE, START + MINUTE)
    store(service, project, request, request)
    counts = accounted(service, project)
    assert (counts["stored"], counts["duplicate"]) == (1, 1)
    assert MetricPoint.objects.filter(project_id=project_id(project)).count() == 1


QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@pytest.mark.parametrize("temporality", list(AggregationTemporality)[1:])
@pytest.mark.parametrize("encoding", [PROTOBUF, JSON])
def test_exponential_histograms_of_the_sdk_are_as_exact_as_their_scale_says(
    service: Service, project: Project, temporality: AggregationTemporality, encoding: str
) -> None:
    """Sent every twenty minutes: its buckets get wider as it gets to know more."""
    sdk = Sdk(
        preferred_temporality={Histogram: temporality},
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()},
    )
    took = sdk.meter.create_histogram("took")
    random = np.random.default_rng(11)
    hours, requests, scales = [], [], []
    for number in range(6):
        values = random.lognormal(3 + number / 2, 1 + number / 4, 500)
        hours.append(values)
        for value in values:
            took.record(float(value))
        request = sdk.export(START + number * 20 * MINUTE + 19 * MINUTE, START)
        (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
        scales.append(metric.exponential_histogram.data_points[0].scale)
        requests.append(request)
    assert scales[0] > scales[-1] >= 2
    store(service, project, *requests, encoding=encoding)
    assert ask(service, project, "count", "took") == [1500, 1500]
    parts = [np.concatenate(hours[:3]), np.concatenate(hours[3:])]
    assert ask(service, project, "sum", "took") == pytest.approx([part.sum() for part in parts])
    error = (1 + ACCURACY) * 2 ** (2 ** -min(scales) / 2) - 1
    for name, share in QUANTILES.items():
        exact = [np.quantile(part, share, method="lower") for part in parts]
        assert ask(service, project, name, "took") == pytest.approx(exact, rel=error)


def test_what_the_sdk_sends_by_default_is_counted_once(service: Service, project: Project) -> None:
    sdk = Sdk()
    orders, waiting = (
        sdk.meter.create_counter("orders"),
        sdk.meter.create_up_down_counter("waiting"),
    )
    took = sdk.meter.create_histogram("took")
    requests = []
    for number in range(4):
        orders.add(10, {"plan": "pro"})
        waiting.add(-1)
        for value in (4.0, 7.0, 30.0 + number):
            took.record(value)
        requests += [sdk.export(START + (2 * n + 30 * number) * MINUTE, START) for n in range(1, 4)]
    store(service, project, *requests)
    assert ask(service, project, "sum", "orders") == [20, 20]
    assert ask(service, project, "count", "took") == [6, 6]
    assert ask(service, project, "sum", "took") == [22 + 30 + 31, 22 + 32 + 33]
    assert ask(service, project, "max", "took") == pytest.approx([31, 33])
    # Between the bounds 5 and 10, in their geometric middle.
    assert ask(service, project, "p50", "took") == pytest.approx([50**0.5] * 2, rel=ACCURACY)
    assert ask(service, project, "min", "waiting") == [-2, -4]
