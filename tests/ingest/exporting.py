"""Exporting over HTTP in the tests: what is sent, and what an exporter is told."""

from typing import Any

from django.test import Client
from google.protobuf.json_format import Parse
from google.rpc import error_details_pb2  # noqa: F401 in JSON a status may hold these
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from ingest.models import Event
from tests.harness import Answer, Project, Service, wait_for
from tests.ingest.otlp import PROTOBUF, written
from tests.ingest.sending import STORING_SECONDS

LOGS = "/otlp/v1/logs"


def export(
    service: Service,
    project: Project,
    content: Any,
    encoding: str = PROTOBUF,
    path: str = LOGS,
    **headers: str,
) -> Answer:
    """What an exporter is answered to a request, or to some bytes."""
    body = content if isinstance(content, bytes) else written(content, encoding)
    whole = {"X-API-Key": project.ingest_key, "Content-Type": encoding, **headers}
    return service.request("POST", path, body, {name: whole[name] for name in whole if whole[name]})


def inside(project: Project, content: Any, encoding: str = PROTOBUF, path: str = LOGS) -> Answer:
    """The same, answered in this process."""
    body = content if isinstance(content, bytes) else written(content, encoding)
    client = Client(raise_request_exception=False, SERVER_NAME="localhost")
    found = client.post(
        path, body, content_type=encoding, headers={"X-API-Key": project.ingest_key}
    )
    headers = {name.lower(): value for name, value in found.items()}
    return Answer(found.status_code, headers, found.content.decode(errors="replace"), found.content)


def told(answer: Answer, encoding: str = PROTOBUF, kind: Any = ExportLogsServiceResponse) -> Any:
    """The message of an answer, in the encoding that was asked in."""
    assert answer.headers["content-type"] == encoding
    if encoding == PROTOBUF:
        return kind.FromString(answer.content)
    return Parse(answer.content, kind())


def accepted(answer: Answer, encoding: str = PROTOBUF) -> None:
    """All of it was."""
    assert answer.status == 200, answer
    assert answer.content == (b"" if encoding == PROTOBUF else b"{}")
    assert not told(answer, encoding).HasField("partial_success")


def refused(answer: Answer, status: int, code: int, encoding: str = PROTOBUF) -> Status:
    """It was, and the reason says so."""
    assert answer.status == status, answer
    found: Status = told(answer, encoding, Status)
    assert found.code == code
    assert found.message
    return found


def stored(project: Project, number: int) -> list[Event]:
    """The project's events, once there are so many."""
    rows = Event.objects.filter(project__slug=project.project)
    wait_for(lambda: rows.count() >= number, STORING_SECONDS, f"{number} events to be stored")
    found = list(rows.order_by("occurred_at"))
    assert len(found) == number
    return found


def accounting(service: Service, project: Project) -> list[dict[str, Any]]:
    headers = {"X-API-Key": project.secret_key}
    lines: list[dict[str, Any]] = service.request(
        "GET", "/v1/query/accounting", headers=headers
    ).json["formats"]
    return lines
