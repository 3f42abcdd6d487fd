"""Exports over HTTP: asked for, waited for, fetched."""

import gzip
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
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


@contextmanager
def standing_still(service: Service, role: str) -> Iterator[None]:
    """The worker of a queue stands still, and not in a transaction, where others waited for it."""
    processes = service.processes(role)

    def stopped() -> bool:
        for process in processes:
            process.suspend()
        if not _transactions():
            return True
        for process in processes:
            process.resume()
        return False

    wait_for(stopped, 20, f"a moment in which no transaction of {role} is under way")
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def _transactions() -> int:
    """How many there are, but for our own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


def rows(project: Project) -> list[ExportRequest]:
    found = ExportRequest.objects.filter(project_id=project_id(project))
    return list(found.order_by("requested_at"))
