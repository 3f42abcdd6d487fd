"""From one project of a running service into another, as OTLP; and in this process."""

import gzip
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message

from ingest.forwarding.rendering.encoding import encode
from ingest.models import Project as Row
from tests.harness import Project, Service, wait_for
from tests.ingest.rendering import PROJECT
from tests.ingest.sending import STORING_SECONDS

both_encodings = pytest.mark.parametrize("encoding", ["protobuf", "json"])
RESOURCE = {"service.name": PROJECT, "telemetry.sdk.name": "client-telemetry"}
MICROSECONDS = "(extract(epoch FROM occurred_at) * 1000000)::int8"


def another_project() -> Project:
    """The project that another one's are sent to."""
    row, keys = Row.objects.create_with_keys(f"test {uuid4().hex}")
    return Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)


def export(service: Service, project: Project, request: Message, encoding: str, path: str) -> None:
    """POST a request as an exporter does; all of it is accepted."""
    body, content_type = encode(request, encoding)
    headers = {
        "X-API-Key": project.ingest_key,
        "Content-Type": content_type,
        "Content-Encoding": "gzip",
    }
    answer = service.request("POST", path, gzip.compress(body), headers)
    assert answer.status == 200, answer
    assert answer.content == (b"" if encoding == "protobuf" else b"{}")


def rows_of(service: Service, project: Project, columns: str, table: str, number: int) -> list[Any]:
    """The project's rows in their order, once there are so many."""
    query = f"""
        SELECT {columns} FROM {table} AS stored JOIN ingest_project AS project
            ON project.id = project_id
        WHERE slug = %s ORDER BY occurred_at, stored.name
    """
    with service.database() as connection:

        def look() -> list[Any]:
            found = connection.execute(query, [project.project]).fetchall()
            return found if len(found) >= number else []

        found: list[Any] = wait_for(look, STORING_SECONDS, f"{number} rows in {table}")
    assert len(found) == number
    return found
