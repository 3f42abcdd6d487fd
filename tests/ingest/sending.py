"""Batches as clients send them, and what became of them: over HTTP, as anybody could."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.harness import Answer, Project, Service, wait_for

STORING_SECONDS = 30.0
# The id of a batch that nobody sends; in the names of tests, which all processes must agree on.
UNKNOWN = "5e0f2f0c-3c52-4d0e-9a3d-0f6d1c5b7a41"
NOW = timedelta()


def moment(ago: timedelta = NOW) -> str:
    """The time so long ago, as a client writes it."""
    return (datetime.now(UTC) - ago).isoformat()


def event(name: str = "plugin_loaded", **fields: Any) -> dict[str, Any]:
    """A good event of somebody's; a field given as None is left out."""
    whole = {"event": name, "timestamp": moment(), "user_id": f"user-{uuid4().hex}", **fields}
    return {field: value for field, value in whole.items() if value is not None}


def batch(*events: Any, **fields: Any) -> dict[str, Any]:
    """A batch with an id of its own; of one good event unless told otherwise."""
    return {"batch_id": str(uuid4()), "events": list(events) or [event()], **fields}


def send(
    service: Service,
    project: Project,
    content: Any,
    headers: dict[str, str] | None = None,
    path: str = "/v1/events",
) -> Answer:
    """POST `content`, as JSON unless it is bytes, with the project's ingest key."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return service.request(
        "POST",
        path,
        body,
        {"X-API-Key": project.ingest_key, "Content-Type": "application/json", **(headers or {})},
    )


def accepted(answer: Answer) -> UUID:
    """The id of the batch that this answer says was accepted."""
    assert answer.status == 200, answer
    return UUID(answer.json["batch_id"])


def status(service: Service, project: Project, batch_id: UUID | str) -> Answer:
    """What `GET /v1/batches/{id}` says to the project's server."""
    return service.request(
        "GET", f"/v1/batches/{batch_id}", headers={"X-API-Key": project.secret_key}
    )


def settled(service: Service, project: Project, batch_id: UUID | str) -> dict[str, Any]:
    """What became of a batch, once it waits no longer."""

    def look() -> dict[str, Any] | None:
        report: dict[str, Any] = status(service, project, batch_id).json
        return report if report["state"] != "received" else None

    found: dict[str, Any] = wait_for(look, STORING_SECONDS, f"batch {batch_id} to be settled")
    return found


def accounting(service: Service, project: Project, query: str = "") -> dict[str, int]:
    """The native format's line of the accounting; empty where there is none."""
    answer = service.request(
        "GET", f"/v1/query/accounting{query}", headers={"X-API-Key": project.secret_key}
    )
    assert answer.status == 200, answer
    lines = {line.pop("format"): line for line in answer.json["formats"]}
    assert set(lines) <= {"events"}, lines
    found: dict[str, int] = lines.get("events", {})
    return found
