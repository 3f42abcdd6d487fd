"""Reading `/metrics` as Prometheus does, and comparing two readings."""

import http.client
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import Answer, Service

TIMEOUT = 20


@dataclass(frozen=True)
class Reading:
    """What one scrape told."""

    text: str
    metrics: Mapping[str, Metric]

    def value(self, sample: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels; 0 where there are none."""
        return sum(
            found.value
            for metric in self.metrics.values()
            for found in metric.samples
            if found.name == sample and labels.items() <= found.labels.items()
        )

    @property
    def checks(self) -> dict[str, float]:
        samples = self.metrics["telemetry_check_ok"].samples
        return {sample.labels["check"]: sample.value for sample in samples}


def ask(service: Service, headers: Mapping[str, str] | None = None) -> Answer:
    """GET /metrics, with no headers but these: as from the same machine, through no proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=TIMEOUT)
    with closing(connection):
        connection.request("GET", "/metrics", headers=dict(headers or {}))
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, response.read().decode())


def scrape(service: Service, headers: Mapping[str, str] | None = None) -> Reading:
    answer = ask(service, headers)
    assert answer.status == 200, answer
    return read(answer.text)


def read(text: str) -> Reading:
    """By the names of the table, where a counter's has its ending."""
    families = text_string_to_metric_families(text)
    metrics = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name: metric
        for metric in families
    }
    return Reading(text, metrics)
