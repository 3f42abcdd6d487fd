"""The queues as the broker has them: what waits and since when, and what may be done about it.

Everything here raises BROKER_ERRORS in bounded time.
"""

import json
from dataclasses import dataclass
from typing import Any

import kombu

from telemetry_site.celery import QUEUES, SENT_AT, app, broker_connection

# So many of the oldest messages are shown, and so many are looked through for one to remove.
MOST_SHOWN = 5
MOST_SEARCHED = 1_000


@dataclass(frozen=True)
class Message:
    """A task that waits in a queue. `sent_at` is in seconds since 1970, None where unknown."""

    id: str
    task: str
    sent_at: float | None


@dataclass(frozen=True)
class Queue:
    """How many wait, and the oldest of them. Empty where the broker lets nobody peek."""

    waiting: int
    oldest: list[Message]


def look() -> dict[str, Queue]:
    """Every queue, by name."""
    with broker_connection() as broker:
        return {
            name: Queue(_waiting(broker, name), [_message(raw) for raw in _peek(broker, name)])
            for name in QUEUES
        }


def remove(name: str, task_id: str) -> bool:
    """Take a waiting task out of its queue; False where it no longer waits.

    Out of the queue it is gone for good. Celery's own revoke is known to the workers that run at
    that moment alone.
    """
    with broker_connection() as broker:
        for raw in _peek(broker, name, MOST_SEARCHED):
            if _message(raw).id == task_id:
                return bool(_channel(broker).client.lrem(name, -1, raw))
    return False


def tell_of_pauses() -> None:
    """Let the workers look at the pauses now."""
    _broadcast("obey_pauses")


def ask_to_stop(worker: str, task_id: str) -> None:
    """Ask a running task to stop."""
    _broadcast("ask_to_stop", [worker], {"task_id": task_id})


def kill(worker: str, task_id: str) -> None:
    """Kill the process that runs a task, and never run it again."""
    words = {"task_id": task_id, "terminate": True, "signal": "SIGKILL"}
    _broadcast("revoke", [worker], words)


def _broadcast(
    command: str, workers: list[str] | None = None, words: dict[str, Any] | None = None
) -> None:
    with broker_connection() as broker:
        app.control.broadcast(command, words, workers, connection=broker)


def _channel(broker: kombu.Connection) -> Any:
    """One of the broker's own kind: Redis' has a client."""
    return broker.default_channel


def _waiting(broker: kombu.Connection, name: str) -> int:
    try:
        declared = _channel(broker).queue_declare(name, passive=True)
    except kombu.exceptions.ChannelError:
        return 0  # Redis has no empty queues
    return int(declared.message_count)


def _peek(broker: kombu.Connection, name: str, most: int = MOST_SHOWN) -> list[bytes]:
    """The oldest messages as they stand in Redis; none of another broker's."""
    if broker.transport.driver_type != "redis":
        return []
    found: list[bytes] = _channel(broker).client.lrange(name, -most, -1)
    return found[::-1]


def _message(raw: bytes) -> Message:
    headers = json.loads(raw)["headers"]
    return Message(headers["id"], headers["task"], headers.get(SENT_AT))
