"""Asking about a person's data, over HTTP."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
from django.conf import settings

from ingest.models import Project as Row
from privacy.subjects import Pseudonyms
from tests.harness import Answer, Project, Service

HOUR = timedelta(hours=1)
PATHS = {
    "delete": ("POST", "/v1/telemetry/delete"),
    "consent": ("PUT", "/v1/telemetry/consent"),
    "tokens": ("POST", "/v1/telemetry/tokens"),
    "export": ("POST", "/v1/telemetry/export"),
}


def somebody() -> str:
    """A user id nobody else has."""
    return f"user-{uuid4().hex}"


def subject_token(project: Project, user_id: str, *, secret: str = "", **claims: Any) -> str:
    """A good subject token, but for what is given; a claim given as None is left out."""
    whole = {
        "aud": project.project, "sub": user_id, "scope": "privacy",
        "exp": datetime.now(UTC) + HOUR, **claims,
    }  # fmt: skip
    payload = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(payload, secret or project.signing_secret, "HS256")


def ask(
    service: Service,
    what: str,
    bearer: str,
    content: Any,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Ask one of PATHS, with a subject token or a key."""
    method, path = PATHS[what]
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    given = {"Content-Type": "application/json", **(headers or {})}
    return service.request(method, path, body, {"Authorization": f"Bearer {bearer}", **given})


def about(service: Service, what: str, token: str) -> Answer:
    """What a deletion token's holder may ask: `status` or `cancel`."""
    return service.request(
        "POST",
        f"/v1/telemetry/delete/{what}",
        json.dumps({"deletion_token": token}).encode(),
        {"Content-Type": "application/json"},
    )


def pseudonym(project: Project, user_id: str) -> bytes:
    """What stands for the person in the database."""
    row = Row.objects.get(slug=project.project)
    return Pseudonyms(settings.PEPPER, row.pk).subject(user_id)
