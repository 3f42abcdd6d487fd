"""What the fleet sends: every kind of client, well and badly behaved. Pure, and the same each time
for one seed and moment.
"""

import gzip
import json
import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

PLUGINS = ("Compressor", "Limiter", "Reverb", "Delay", "Equaliser", "Saturator")
FEATURES = ("plugin_loaded", "preset_changed", "feature_used", "render")
HOSTS = ("Ableton Live", "Logic Pro", "Cubase", "Reaper", "FL Studio", "Bitwig Studio")
SYSTEMS = ("Windows 11", "macOS 15.1", "macOS 14.5", "Ubuntu 24.04")
VERSIONS = ("2.13.0", "2.14.0", "2.14.3", "3.0.0-beta.2")
COMMANDS = ("build", "test", "deploy", "lint", "publish")
SCOPES = ("checkout", "search", "player", "settings")
LEVELS = ("info", "info", "info", "warn", "error")
NODES = tuple(f"node-{place}-{number}" for place in ("eu", "us", "ap") for number in (1, 2))
USERS = tuple(f"user-{number:03d}" for number in range(200))

# How late the latest batches are.
LATEST_HOURS = 13 * 24

# Refused by a constraint that the demo puts on the table for a moment.
UNSTORABLE = "demo.unstorable"
PAGE = "https://app.example.com"


@dataclass(frozen=True)
class Sending:
    """One request: who sends it, where to, and how many events are in it."""

    client: str
    path: str
    body: bytes
    events: int
    headers: Mapping[str, str] = field(default_factory=dict)
    # Which of the project's credentials it shows: a key, a node's token, a key in the URL, a wrong
    # one.
    credential: str = "key"


@dataclass(frozen=True)
class Fleet:
    """Makes what the fleet sends around `now`."""

    dice: random.Random
    now: datetime

    def day(self) -> list[Sending]:
        """All of it but the unstorable, in no order."""
        sendings = [
            *self.plugins(), *self.bad_plugins(), *self.tools(), *self.pages(), *self.metrics(),
            *self.snapshots(),
        ]  # fmt: skip
        self.dice.shuffle(sendings)
        return sendings

    # --- plug-ins: gzip by type and by encoding, as source 000's client says it ---

    def plugins(self) -> Iterator[Sending]:
        """Good batches, half of them late: of computers that were offline for hours or days."""
        for number in range(400):
            user = self.dice.choice(USERS)
            late = timedelta(hours=self.dice.uniform(1, LATEST_HOURS)) if number % 2 else None
            yield self._plugin(user, self._events(self.dice.randrange(40, 100), late))

    def bad_plugins(self) -> Iterator[Sending]:
        """Sent twice, rebuilt, broken, too old, with a wrong key, and more than is allowed."""
        for _ in range(10):
            batch = self._plugin(self.dice.choice(USERS), self._events(20))
            yield from (batch, batch)
        for _ in range(5):
            user, events = self.dice.choice(USERS), self._events(20)
            yield from (self._plugin(user, events), self._plugin(user, events))
        for _ in range(5):
            yield Sending("plug-ins", "/v1/events", b'{"events": [{"event": ', 0)
        for spoil in SPOILS:
            events = self._events(10)
            for event in events[:3]:
                spoil(event)
            yield self._plugin(self.dice.choice(USERS), events)
        too_old = self._events(10, late=timedelta(days=40))
        yield self._plugin(self.dice.choice(USERS), too_old)
        for _ in range(4):
            batch = self._plugin("user-eager", self._events(5))
            yield Sending(batch.client, batch.path, batch.body, 5, batch.headers, "wrong")
        for _ in range(25):
            yield self._plugin("user-eager", self._events(5))

    def unstorable(self) -> list[Sending]:
        """Batches in which one event in two can't be stored while the constraint stands."""
        return [self._plugin(user, self._mixed()) for user in USERS[:4]]

    def _mixed(self) -> list[dict[str, Any]]:
        events = self._events(10)
        for event in events[::2]:
            event["event"] = UNSTORABLE
        return events

    def _plugin(self, user: str, events: list[dict[str, Any]]) -> Sending:
        batch = {
            "batch_id": str(self._uuid()),
            "timestamp": events[-1]["timestamp"],
            "client_version": self.dice.choice(VERSIONS),
            "user_id": user,
            "session_id": f"s-{user}-{self.dice.randrange(5)}",
            "events": events,
        }
        headers = {"Content-Type": "application/gzip", "Content-Encoding": "gzip"}
        return Sending("plug-ins", "/v1/events", _zipped(batch), len(events), headers)

    def _events(self, count: int, late: timedelta | None = None) -> list[dict[str, Any]]:
        start = self.now - (late or timedelta(seconds=self.dice.uniform(60, 600)))
        return [self._event(start + timedelta(seconds=index / 2)) for index in range(count)]

    def _event(self, moment: datetime) -> dict[str, Any]:
        event = {
            "event": self.dice.choice(FEATURES),
            "timestamp": moment.isoformat(timespec="milliseconds"),
            "category": self.dice.choice(("application", "application", "business", "system")),
            "properties": {
                "plugin": self.dice.choice(PLUGINS),
                "host": self.dice.choice(HOSTS),
                "system": self.dice.choice(SYSTEMS),
                "load_ms": round(self.dice.lognormvariate(4, 0.6), 1),
                "buffer": self.dice.choice((64, 128, 256, 512)),
            },
        }
        if self.dice.random() < 0.03:
            # What people let slip, and scrubbing takes out.
            event["message"] = self.dice.choice(SLIPS)
        return event

    # --- command-line tools ---

    def tools(self) -> Iterator[Sending]:
        """Submissions, most of a user's; one without."""
        for number in range(60):
            events = [
                {
                    "event": "command_run",
                    "timestamp": self._moments_ago(600),
                    "command": self.dice.choice(COMMANDS),
                    "duration_ms": self.dice.randrange(20, 30_000),
                    "exit_code": self.dice.choice((0, 0, 0, 0, 1, 2)),
                }
                for _ in range(10)
            ]
            whose = {"user_id": self.dice.choice(USERS)} if number % 10 else {}
            body = {**whose, "events": events}
            yield Sending("tools", "/v1/submit", _zipped(body), 10, JSON_GZIP)

    # --- web pages ---

    def pages(self) -> Iterator[Sending]:
        """Beacons, as text, and more of them than one address may send."""
        headers = {"Content-Type": "text/plain;charset=UTF-8", "Origin": PAGE}
        for number in range(220):
            lines = [self._line() for _ in range(self.dice.randrange(1, 8))]
            # Older pages send one event bare.
            body = lines[0] if number % 4 == 0 else {"events": lines}
            count = 1 if number % 4 == 0 else len(lines)
            text = json.dumps(body).encode()
            yield Sending("pages", "/api/client-telemetry", text, count, headers, "url key")

    def _line(self) -> dict[str, Any]:
        user = self.dice.choice(USERS)
        return {
            "level": self.dice.choice(LEVELS),
            "scope": self.dice.choice(SCOPES),
            "sessionId": f"web-{user}",
            "message": self.dice.choice(("Opened", "Card form failed to load", "Slow response")),
            "timestamp": self._moments_ago(120),
            "context": {"userId": user, "elapsed": self.dice.randrange(5, 4000)},
        }

    # --- nodes ---

    def metrics(self) -> Iterator[Sending]:
        """All five kinds of measurement, of each of the last hours."""
        for node in NODES:
            for hours in range(24):
                points = [self._point(index, 3600 * hours) for index in range(30)]
                body = {"node_id": node, "batch_id": str(self._uuid()), "metrics": points}
                yield Sending("metrics", "/v1/metrics", _zipped(body), 30, JSON_GZIP)

    def _point(self, index: int, seconds_ago: float) -> dict[str, Any]:
        dice = self.dice
        kinds: tuple[Callable[[], dict[str, Any]], ...] = (
            lambda: {"name": "requests", "type": "counter", "value": dice.randrange(1, 50)},
            lambda: {"name": "queue", "type": "gauge", "value": dice.randrange(0, 9)},
            lambda: {
                "name": "latency_ms",
                "type": "histogram",
                "value": [round(dice.lognormvariate(3, 0.7), 2) for _ in range(5)],
            },
            lambda: {
                "name": "upload_bytes",
                "type": "summary",
                "value": {"count": 4, "sum": 81_920, "min": 1_024, "max": 65_536},
            },
            lambda: {"name": "throughput", "type": "meter", "value": round(dice.uniform(1, 90), 2)},
        )
        tags = {"route": dice.choice(("/upload", "/play", "/search"))}
        moment = self._moments_ago(600, seconds_ago)
        return {**kinds[index % 5](), "timestamp": moment, "tags": tags}

    def snapshots(self) -> Iterator[Sending]:
        """One a minute and node, of the last minutes; the last of each twice."""
        for node in NODES:
            of_node = [self._snapshot(node, minutes) for minutes in range(6)]
            yield from (*of_node, of_node[-1])

    def _snapshot(self, node: str, minutes: int) -> Sending:
        body = {
            "node_id": node,
            "timestamp": (self.now - timedelta(minutes=minutes)).isoformat(timespec="seconds"),
            "cpu_percent": round(self.dice.uniform(3, 90), 1),
            "memory_percent": round(self.dice.uniform(20, 80), 1),
            "process_count": self.dice.randrange(100, 400),
        }
        path = "/api/telemetry/snapshot"
        return Sending("snapshots", path, _zipped(body), 1, JSON_GZIP, "token")

    def _moments_ago(self, seconds: float, at_least: float = 0) -> str:
        moment = self.now - timedelta(seconds=at_least + self.dice.uniform(0, seconds))
        return moment.isoformat(timespec="milliseconds")

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.dice.getrandbits(128), version=4)


JSON_GZIP = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
SLIPS = (
    "Licence mailed to jane.doe@example.com",
    "Could not read C:\\Users\\jane\\Music\\session.als",
    "Proxy http://jane:secret@10.20.30.40:3128 refused",
    "Called from 192.0.2.17",
)
# How an event is spoiled, so that it is refused by itself.
SPOILS: tuple[Callable[[dict[str, Any]], Any], ...] = (
    lambda event: event.pop("timestamp"),
    lambda event: event.pop("event"),
    lambda event: event.update(timestamp="yesterday"),
    lambda event: event.update(category="sports"),
    lambda event: event.update(event="x" * 300),
    lambda event: event.update(properties="none"),
)


def _zipped(body: Any) -> bytes:
    return gzip.compress(json.dumps(body).encode(), mtime=0)
