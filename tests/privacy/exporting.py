"""Exports over HTTP: asked for, waited for, fetched."""

import gzip
import json
import urllib.request
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from privacy.models import ExportRequest
from tests.harness import Answer, Project, Service, wait_for
from tests.ingest.traces import project_id
from tests.privacy.asking import ask, subject_token

MAKING_SECONDS = 30.0
LATER = {"Prefer": "respond-async"}
# For tests of what is in it: a loaded machine may take longer than the two seconds of who says
# nothing.
PATIENT = {"Prefer": "wait=10"}


def export(
    service: Service, project: Project, user: str, headers: dict[str, str] | None = None
) -> Answer:
    """Ask for a person's data, as that person."""
    return ask(service, "export", subject_token(project, user), {"user_id": user}, headers)


def status(service: Service, bearer: str, export_id: str) -> Answer:
    path = f"/v1/telemetry/exports/{export_id}"
    return service.request("GET", path, headers={"Authorization": f"Bearer {bearer}"})


def settled(service: Service, project: Project, export_id: str) -> dict[str, Any]:
    """What becomes of an export, once it waits no longer."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = status(service, project.secret_key, export_id).json
        return found if found["status"] not in {"waiting", "running"} else None

    found: dict[str, Any] = wait_for(look, MAKING_SECONDS, "the export to be made")
    return found


def fetched(url: str) -> dict[str, Any]:
    """What is in the file behind a link."""
    with urllib.request.urlopen(url, timeout=30) as response:
        content: dict[str, Any] = json.loads(gzip.decompress(response.read()))
    return content


def made(service: Service, project: Project, user: str) -> dict[str, Any]:
    """All that there is of a person, by way of a file."""
    asked = export(service, project, user, LATER)
    assert asked.status == 202, asked
    report = settled(service, project, asked.json["export_id"])
    assert report["status"] == "done", report
    return fetched(report["download_url"])


def check(service: Service, content: dict[str, Any]) -> None:
    """Fail unless this keeps to the published schema."""
    schema = service.request("GET", "/api/schema/export/").json
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(content)


def rows(project: Project) -> list[ExportRequest]:
    found = ExportRequest.objects.filter(project_id=project_id(project))
    return list(found.order_by("requested_at"))
