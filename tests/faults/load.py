"""Clients that send batches through every fault, and remember what each batch was told.

A batch whose answer was lost, or was a 503, is sent again under the same id until it is answered,
as a real client does. What is remembered is what `reckoning` holds the service to.
"""

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, islice
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from tests.harness import Project, Service

CLIENTS = 4
EVENTS = 5
MOST_BATCHES = 20_000  # of one client
LONGEST_SECONDS = 900.0  # from a load's start
DELIVERY_SECONDS = 180.0  # for how long one batch is sent again and again
ANSWER_SECONDS = 60.0
PAUSE_SECONDS = 0.02
RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Told:
    """A 2xx: when its request began (monotonic clock), how long it took, and what it said."""

    begun: float
    seconds: float
    duplicate: bool


@dataclass(slots=True)
class Sent:
    """A batch, and what became of each time it was sent."""

    batch_id: str
    path: str
    body: bytes
    events: int
    told: list[Told] = field(default_factory=list)
    lost: int = 0  # no answer came
    refused: int = 0  # 503: not accepted, come again
    odd: list[str] = field(default_factory=list)  # any other answer: none is expected

    @property
    def accepted(self) -> bool:
        return bool(self.told)

    @property
    def uncertain(self) -> int:
        """Posts that may or may not have left a row in the ledger."""
        return self.lost + self.refused

    @property
    def positions(self) -> set[tuple[str, int]]:
        return {(self.batch_id, position) for position in range(self.events)}


def new_batch(events: int = EVENTS, name: str = "fault", path: str = "/v1/events") -> Sent:
    """A batch unlike any other, so that no digest takes it for one sent before."""
    batch_id, now = str(uuid4()), datetime.now(UTC).isoformat()
    items = [DIALECTS[path](name, now, position, batch_id) for position in range(events)]
    field = "metrics" if path == "/v1/metrics" else "events"
    body = {"batch_id": batch_id, "user_id": f"user-{batch_id[:2]}", field: items}
    return Sent(batch_id, path, json.dumps(body).encode(), events)


def _event(name: str, now: str, position: int, batch_id: str) -> dict[str, Any]:
    return {"event": name, "timestamp": now, "position": position, "of": batch_id}


def _browser_event(name: str, now: str, position: int, batch_id: str) -> dict[str, Any]:
    return {
        "level": "info",
        "scope": name,
        "sessionId": batch_id,
        "message": f"{position} of a batch",
        "timestamp": now,
    }


def _metric(name: str, now: str, position: int, batch_id: str) -> dict[str, Any]:
    return {"name": name, "type": "gauge", "value": position, "timestamp": now}


# What speaks to which endpoint; the load sends them in turn.
DIALECTS = {
    "/v1/events": _event,
    "/v1/metrics": _metric,
    "/v1/submit": _event,
    "/api/client-telemetry": _browser_event,
}


class Client:
    """One connection that sends batches, kept open while it lasts."""

    def __init__(self, service: Service, project: Project) -> None:
        self._port = service.port
        self._headers = {"X-API-Key": project.ingest_key, "Content-Type": "application/json"}
        self._connection: http.client.HTTPConnection | None = None

    def post(self, batch: Sent) -> None:
        """Send it once, and write down what came of it."""
        begun = time.monotonic()
        try:
            status, headers, text = self._exchange(batch)
        except (OSError, http.client.HTTPException):
            self.close()
            batch.lost += 1
            return
        if status in (200, 204):
            # Not every dialect says it.
            duplicate = json.loads(text or b"{}").get("duplicate", False)
            batch.told.append(Told(begun, time.monotonic() - begun, duplicate))
        elif status == 503 and int(headers["Retry-After"] or 0) > 0:
            batch.refused += 1
        else:
            batch.odd.append(f"{status}: {text[:200]!r}")

    def deliver(self, batch: Sent) -> None:
        """Send it until it is answered, or until the time is up."""
        deadline = time.monotonic() + DELIVERY_SECONDS
        self.post(batch)
        while not batch.told and not batch.odd and time.monotonic() < deadline:
            time.sleep(RETRY_SECONDS)
            self.post(batch)

    def _exchange(self, batch: Sent) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=ANSWER_SECONDS
            )
        self._connection.request("POST", batch.path, batch.body, self._headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.will_close:
            self.close()
        return response.status, response.headers, text

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Load:
    """Several clients at work between `with` and its end; bounded in number and in time."""

    def __init__(self, service: Service, project: Project) -> None:
        self.service = service
        self.project = project
        self.clients = CLIENTS
        self.pause = PAUSE_SECONDS
        self.batches: list[Sent] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._deadline = 0.0

    def __enter__(self) -> Self:
        self._stop.clear()
        self._deadline = time.monotonic() + LONGEST_SECONDS
        self._threads = [
            threading.Thread(target=self._run, daemon=True) for _ in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Begin no further batch, and get those under way answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join(DELIVERY_SECONDS + ANSWER_SECONDS)

    def send(self, *batches: Sent) -> None:
        """Deliver these one after the other, now."""
        client = Client(self.service, self.project)
        for batch in batches:
            self.batches.append(batch)
            client.deliver(batch)
        client.close()

    def _run(self) -> None:
        client = Client(self.service, self.project)
        for path in islice(cycle(DIALECTS), MOST_BATCHES):
            if self._stop.is_set() or time.monotonic() > self._deadline:
                break
            batch = new_batch(path=path)
            self.batches.append(batch)
            client.deliver(batch)
            self._stop.wait(self.pause)
        client.close()
