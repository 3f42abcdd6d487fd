"""One task a request: its events become rows."""

import uuid
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import Any

from django.conf import settings

from tests.benchmarks.naive.celery import app
from tests.benchmarks.naive.models import Event

_KNOWN = frozenset(
    {"event", "timestamp", "user_id", "session_id", "category", "level", "message", "properties"}
)


@app.task
def store_events(project_id: int, batch: dict[str, Any]) -> None:
    """Store a batch that was validated; one that comes twice is stored once."""
    pseudonym = cache(_pseudonym)
    batch_id = uuid.UUID(batch["batch_id"])
    Event.objects.bulk_create(
        [
            _event(project_id, batch_id, position, event, batch, pseudonym)
            for position, event in enumerate(batch["events"])
        ],
        ignore_conflicts=True,
    )


def _event(
    project_id: int,
    batch_id: uuid.UUID,
    position: int,
    event: dict[str, Any],
    batch: dict[str, Any],
    pseudonym: Any,
) -> Event:
    return Event(
        project_id=project_id,
        occurred_at=datetime.fromisoformat(event["timestamp"]),
        batch_id=batch_id,
        position=position,
        subject=pseudonym(event.get("user_id") or batch.get("user_id")),
        session=pseudonym(event.get("session_id") or batch.get("session_id")),
        name=event["event"],
        category=event.get("category") or batch.get("category", "application"),
        level=event.get("level"),
        client_version=batch.get("client_version"),
        message=event.get("message"),
        properties=_properties(event),
    )


def _properties(event: dict[str, Any]) -> dict[str, Any]:
    if event.keys() <= _KNOWN:
        return event.get("properties", {})
    others = {name: value for name, value in event.items() if name not in _KNOWN}
    return others | event.get("properties", {})


def _pseudonym(text: str | None) -> uuid.UUID | None:
    if text is None:
        return None
    return uuid.UUID(bytes=blake2b(text.encode(), digest_size=16, key=settings.PEPPER).digest())
