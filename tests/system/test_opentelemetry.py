"""OpenTelemetry's own SDKs, unchanged, export here; what they sent is found by its numbers."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from tests.harness import Project, Service, wait_for

STORED_SECONDS = 30
EXPORT_SECONDS = 60
INSTALL_SECONDS = 300
JAVASCRIPT = Path(__file__).parent / "opentelemetry_js"
RESOURCE = {"service.name": "shop", "service.version": "1.2.3"}


@pytest.fixture
def keys(service: Service) -> Project:
    return service.create_project(f"opentelemetry {uuid4().hex}")


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js, with the SDK installed beside what uses it."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        assert "CI" not in os.environ, "Node.js and npm aren't installed"
        pytest.skip("Node.js and npm aren't installed")
    installed = JAVASCRIPT / "node_modules" / ".package-lock.json"
    wanted = JAVASCRIPT / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        npm_ci = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(npm_ci, cwd=JAVASCRIPT, check=True, timeout=INSTALL_SECONDS)
        installed.touch()
    return found


def export(node: str, service: Service, keys: Project, signal: str, encoding: str) -> None:
    """Let JavaScript's SDK send what `export.js` makes."""
    words = [node, "export.js", signal, encoding, f"{service.url}/otlp", keys.ingest_key]
    subprocess.run(words, cwd=JAVASCRIPT, check=True, timeout=EXPORT_SECONDS)


def accounted(service: Service, keys: Project, name: str) -> dict[str, int]:
    """What became of what was sent in a format, once nothing of it waits."""
    headers = {"X-API-Key": keys.secret_key}

    def look() -> dict[str, int] | None:
        answer = service.request("GET", "/v1/query/accounting", headers=headers)
        (line,) = [line for line in answer.json["formats"] if line["format"] == name]
        return line if line["waiting"] == 0 else None

    found: dict[str, int] = wait_for(look, STORED_SECONDS, f"{name} to be stored")
    return found


def asked(service: Service, keys: Project, question: str) -> Any:
    """The answer to a question about numbers, once all that is stored is counted."""
    service.manage("rollup")
    headers = {"X-API-Key": keys.secret_key}
    answer = service.request("GET", f"/v1/query/{question}", headers=headers)
    assert answer.status == 200, answer.text
    return answer.json


def check_orders(service: Service, keys: Project) -> None:
    """Sixty orders of six people were placed, and all of it is there."""
    line = accounted(service, keys, "otlp_logs")
    assert (line["received"], line["stored"]) == (60, 60)
    answer = asked(service, keys, "events?group_by=event&interval=month")
    (group,) = answer["groups"]
    assert group["value"] == "order_placed"
    assert sum(group["count"]) == 60
    assert (max(group["people"]), max(group["sessions"])) == (6, 6)
    with service.database() as database:
        stored = database.execute(
            """
            SELECT DISTINCT e.name, level, scope, client_version, message, properties
            FROM ingest_event e JOIN ingest_project p ON p.id = e.project_id WHERE p.slug = %s
            """,
            [keys.project],
        ).fetchall()
    assert {row[:4] for row in stored} == {("order_placed", "warn", "shop.orders", "1.2.3")}
    placed = {message: properties for *_, message, properties in stored}
    assert placed.keys() == {f"order {number}" for number in range(60)}
    properties = placed["order 17"]
    assert properties.pop("resource")["service.name"] == "shop"
    assert properties == {"plan": "pro", "items": [1, 2.5, True], "sizes": {"small": 17}}


@pytest.mark.parametrize("compression", list(Compression))
def test_pythons_sdk_exports_logs(
    service: Service, keys: Project, compression: Compression
) -> None:
    exporter = OTLPLogExporter(
        f"{service.url}/otlp/v1/logs", headers={"x-api-key": keys.ingest_key},
        compression=compression,
    )  # fmt: skip
    provider = LoggerProvider(Resource.create(RESOURCE), shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("shop.orders")
    for number in range(60):
        logger.emit(
            event_name="order_placed",
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=f"order {number}",
            attributes={
                "session.id": f"s-{number % 6}",
                "user.id": f"u-{number % 6}",
                "plan": "pro",
                "items": [1, 2.5, True],
                "sizes": {"small": number},
            },
        )
    provider.shutdown()
    check_orders(service, keys)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_javascripts_sdk_exports_logs(
    service: Service, keys: Project, node: str, encoding: str
) -> None:
    export(node, service, keys, "logs", encoding)
    check_orders(service, keys)


# --- metrics ---


def check_figures(service: Service, keys: Project, exports: int) -> None:
    """Sixty orders, by six people, that took from 0 to 59 milliseconds, however often told."""
    line = accounted(service, keys, "otlp_metrics")
    assert line["received"] == line["stored"] == 18 * exports

    def figure(name: str, aggregate: str) -> float:
        question = f"metrics?name={name}&agg={aggregate}&interval=month"
        (group,) = asked(service, keys, question)["groups"]
        return sum(value for value in group["values"] if value is not None)

    assert figure("orders", "sum") == 60
    assert figure("took", "count") == 60
    assert figure("took", "sum") == sum(range(60))
    # A bucket is as wide as the SDK makes it: from 25 to 50.
    assert figure("took", "p50") == pytest.approx(30, rel=0.2)
    assert figure("waiting", "max") == 10
    (group,) = asked(service, keys, "metrics?name=orders&agg=sum&group_by=plan&interval=month")[
        "groups"
    ]
    assert group["value"] == "pro"


def test_pythons_sdk_exports_metrics(service: Service, keys: Project) -> None:
    exporter = OTLPMetricExporter(
        f"{service.url}/otlp/v1/metrics", headers={"x-api-key": keys.ingest_key}
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], Resource.create(RESOURCE), shutdown_on_exit=False)
    meter = provider.get_meter("shop.orders")
    orders, waiting = meter.create_counter("orders"), meter.create_up_down_counter("waiting")
    took = meter.create_histogram("took", unit="ms")
    for number in range(60):
        attributes = {"user.id": f"u-{number % 6}", "plan": "pro"}
        orders.add(1, attributes)
        waiting.add(1 if number % 2 else -1, attributes)
        took.record(number, attributes)
    provider.shutdown()
    check_figures(service, keys, exports=1)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_javascripts_sdk_exports_metrics(
    service: Service, keys: Project, node: str, encoding: str
) -> None:
    export(node, service, keys, "metrics", encoding)
    # All that there is to tell is told again at the end.
    check_figures(service, keys, exports=2)
