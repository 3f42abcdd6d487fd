"""The load generator: one process of its own, bounded in count and in time.

One thread, non-blocking sockets, keep-alive connections, requests that are bytes before the clock
starts. With a rate it is open-loop: a request is due at its own moment whether or not the ones
before it were answered, and its latency counts from that moment.
"""

import contextlib
import multiprocessing
import os
import selectors
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from tests.benchmarks import samples

_RECEIVED = 64 * 1024
_PREPARE_SECONDS = 300
_OVERTIME_SECONDS = 30
# So late the generator itself may send; more makes its latencies worthless.
TOLERATED_LAG = 0.005


@dataclass(frozen=True)
class Target:
    """Where batches are posted to, and with which key."""

    port: int
    path: str
    key: str


@dataclass(frozen=True)
class Plan:
    """What is sent. `rate` is requests a second; None: as fast as the connections allow."""

    target: Target
    requests: int
    events: int
    seed: int
    seconds: float
    connections: int = 8
    rate: float | None = None


@dataclass
class Outcome:
    """What came of it. Latencies are seconds, in the order of the answers."""

    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return self.statuses.get(200, 0) + self.statuses.get(202, 0)

    @property
    def refused(self) -> int:
        return sum(self.statuses.values()) - self.accepted

    def percentile(self, percent: float) -> float:
        return percentile(self.latencies, percent)


def percentile(values: list[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Generator:
    """A process that has its requests ready and waits for the word to send them."""

    def __init__(self, plan: Plan) -> None:
        context = multiprocessing.get_context("spawn")
        self._plan = plan
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_generate, args=(plan, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._expect(_PREPARE_SECONDS)

    def start(self) -> None:
        """Let it send; `finish()` waits for the end."""
        self._pipe.send("go")

    def finish(self) -> Outcome:
        """What came of it, once everything is answered or the time is up."""
        outcome: Outcome = self._expect(self._plan.seconds + _OVERTIME_SECONDS)
        self._process.join(10)
        return outcome

    def run(self) -> Outcome:
        self.start()
        return self.finish()

    def _expect(self, seconds: float) -> Outcome:
        if not self._pipe.poll(seconds):
            self._process.kill()
            raise RuntimeError("the load generator gave no sign of life in time")
        return self._pipe.recv()


def _generate(plan: Plan, pipe: Connection) -> None:
    # Clients have processors of their own: where that may be said, ours isn't kept waiting.
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    requests = prepared(plan)
    pipe.send("ready")
    pipe.recv()
    pipe.send(Sender(plan, requests).run())


def prepared(plan: Plan) -> deque[bytes]:
    """The requests as bytes."""
    head = (
        f"POST {plan.target.path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.target.port}\r\n"
        f"X-API-Key: {plan.target.key}\r\n"
        f"Content-Type: {samples.content_type(plan.target.path)}\r\n"
        "Content-Encoding: gzip\r\nContent-Length: "
    ).encode()
    bodies = samples.batches(plan.requests, plan.events, plan.seed, plan.target.path)
    return deque(head + b"%d\r\n\r\n" % len(body) + body for body in bodies)


class Line:
    """One keep-alive connection, with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._received = b""

    def send(self, request: bytes, due: float) -> None:
        self.due, self._received = due, b""
        self.socket.sendall(request)

    def status(self) -> int:
        """The answer's status once the whole of it is there, else 0. Raises on a hang-up."""
        part = self.socket.recv(_RECEIVED)
        if not part:
            raise ConnectionError("the server hung up")
        self._received += part
        head, mark, body = self._received.partition(b"\r\n\r\n")
        return int(head[9:12]) if mark and _complete(head.lower(), body) else 0


def _complete(head: bytes, body: bytes) -> bool:
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    _, _, rest = head.partition(b"content-length:")
    return len(body) >= int(rest.partition(b"\r\n")[0] or 0)


class Sender:
    """Sends the requests over a few lines, and notes what comes back."""

    def __init__(self, plan: Plan, requests: deque[bytes]) -> None:
        self._plan = plan
        self._requests = requests
        self._selector = selectors.DefaultSelector()
        self._idle: deque[Line] = deque()
        self._busy = 0
        self._outcome = Outcome()
        for _ in range(plan.connections):
            self._open()

    def run(self) -> Outcome:
        begun = time.perf_counter()
        deadline = begun + self._plan.seconds
        sent = 0
        while self._requests or self._busy:
            now = time.perf_counter()
            if now > deadline:
                self._requests.clear()
                if now > deadline + _OVERTIME_SECONDS / 2:
                    break
            while self._requests and self._idle and self._due(begun, sent) <= now:
                self._send(self._due(begun, sent), now)
                sent += 1
                now = time.perf_counter()
            for key, _ in self._selector.select(self._pause(begun, sent)):
                self._receive(key.data)
        self._outcome.seconds = time.perf_counter() - begun
        return self._outcome

    def _due(self, begun: float, sent: int) -> float:
        return begun + sent / self._plan.rate if self._plan.rate else 0.0

    def _pause(self, begun: float, sent: int) -> float:
        if not (self._requests and self._idle):
            return 0.5
        return max(0.0, self._due(begun, sent) - time.perf_counter())

    def _open(self) -> None:
        line = Line(self._plan.target.port)
        self._selector.register(line.socket, selectors.EVENT_READ, line)
        self._idle.append(line)

    def _send(self, due: float, now: float) -> None:
        if self._plan.rate:
            self._outcome.lags.append(now - due)
        self._idle.popleft().send(self._requests.popleft(), due or now)
        self._busy += 1

    def _receive(self, line: Line) -> None:
        try:
            status = line.status()
        except OSError:
            self._selector.unregister(line.socket)
            line.socket.close()
            self._open()
            status = -1
        if not status:
            return
        statuses = self._outcome.statuses
        statuses[status] = statuses.get(status, 0) + 1
        self._outcome.latencies.append(time.perf_counter() - line.due)
        if status > 0:
            self._idle.append(line)
        self._busy -= 1
