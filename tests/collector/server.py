"""The collector itself: its port, its connections, its script, and all that it got."""

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from tests.collector.answers import Answer, Exchange, accept, complaint
from tests.collector.received import LOGS, Received
from tests.harness import wait_for

RECEIVING_SECONDS = 30.0


class _Connection(Exchange):
    """One connection, and each request on it in turn."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written one after the other
    server: "_Server"

    def handle(self) -> None:
        # Whoever waits no longer hangs up.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle()

    def do_POST(self) -> None:  # noqa: N802 the base class's name
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers["content-length"]))
        collector = self.server.collector
        self.received = Received(self.path, headers, body, collector.number_of(self.connection))
        answer = complaint(self.received) or collector.next_answer(self.received)
        answer(self)

    def log_message(self, *_: Any) -> None:
        """Tests look at what was received."""


class _Server(ThreadingHTTPServer):
    allow_reuse_port = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, collector: "Collector") -> None:
        self.collector = collector
        super().__init__((collector.host, collector.port), _Connection)

    def shutdown_request(self, request: Any) -> None:
        self.collector.disconnected(request)
        super().shutdown_request(request)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.collector.tls is not None:
            # The handshake belongs into the connection's own thread, which reads first.
            connection = self.collector.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        self.collector.connected(connection)
        return connection, address

    def handle_error(self, *_: Any) -> None:
        """A client that gave up is none of the tests' news."""


class Collector:
    """A receiver on a port of its own, between `with` and its end, or `start` and `close`."""

    def __init__(
        self, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.host, self.tls = host, tls
        # Bound and never listened on: the port stays ours while nobody answers on it.
        self._claim = socket.socket()
        self._claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._claim.bind((host, port))
        self.port: int = self._claim.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"
        self.received: list[Received] = []
        self.keeps = True
        self.connections = 0  # ever made
        self.answer: Answer = accept  # when the script is at its end
        self._script: deque[Answer] = deque()
        self._open: dict[Any, int] = {}  # connections and their numbers
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.close()

    def start(self) -> Self:
        """Listen, for the first time or again."""
        self._server = _Server(self)
        serve = partial(self._server.serve_forever, poll_interval=0.01)
        threading.Thread(target=serve, daemon=True).start()
        return self

    def stop(self) -> None:
        """End all connections, and refuse new ones until `start`."""
        assert self._server is not None, "not started"
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        self.disconnect()

    def disconnect(self) -> None:
        """End all connections from this side, as one does that is idle for too long."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    # Not TLS's own shutdown, which its thread may be in the midst of.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """End for good."""
        if self._server is not None:
            self.stop()
        self._claim.close()

    def then(self, *answers: Answer) -> None:
        """Answer the next requests so, one after the other."""
        self._script.extend(answers)

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        return len(self._open)

    @property
    def accepted(self) -> list[Received]:
        """What was answered with 200, as far as the collector knows."""
        return [received for received in list(self.received) if received.accepted]

    @property
    def records(self) -> Iterator[LogRecord]:
        """All log records that were accepted."""
        return (r for received in self.accepted if received.path == LOGS for r in received.records)

    @property
    def metrics(self) -> Iterator[Metric]:
        """All metrics that were accepted."""
        return (m for received in self.accepted if received.path != LOGS for m in received.metrics)

    def wait_for(self, requests: int) -> list[Received]:
        """All requests, once there are so many."""
        wait_for(lambda: len(self.received) >= requests, RECEIVING_SECONDS, f"{requests} requests")
        return self.received

    def next_answer(self, received: Received) -> Answer:
        """Keep a request; what is to be said to it."""
        with self._lock:
            if self.keeps:
                self.received.append(received)
            return self._script.popleft() if self._script else self.answer

    def connected(self, connection: Any) -> None:
        """Remember a new connection."""
        with self._lock:
            self.connections += 1
            self._open[connection] = self.connections

    def disconnected(self, connection: Any) -> None:
        """Forget one that is over."""
        with self._lock:
            self._open.pop(connection, None)

    def number_of(self, connection: Any) -> int:
        """Which of all connections this is."""
        return self._open[connection]
