"""The two stacks that are measured: the service as a user starts it, and the naive one."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psutil
import psycopg
import redis

from tests.benchmarks import cpu
from tests.benchmarks.load import Target
from tests.harness import ROOT, START_SECONDS, Service, wait_for

EVENTS = "/v1/events"
# What else is measured of ours -> the table its rows go to.
TABLES = {
    EVENTS: "ingest_event",
    "/otlp/v1/logs": "ingest_event",
    "/v1/metrics": "ingest_metricpoint",
    "/api/telemetry/snapshot": "ingest_metricpoint",
}
DRAIN_SECONDS = 300
_LOOK_SECONDS = 0.1
_LINES_SHOWN = 60


class Stack(Service):
    """What both have: groups of processes, a table of events, a way to see that nothing waits."""

    title: str
    table: str
    target: Target
    parents: dict[str, psutil.Process]

    def __enter__(self) -> "Stack":
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        self.parents = cpu.groups(psutil.Process(self.process.pid))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            told = [line for line in self.lines if " INFO " not in line]
            print(f"{self.title} said:", *told[-_LINES_SHOWN:], sep="\n    ", flush=True)
        self.remove()

    def begin(self) -> None:
        """Do what isn't to be charged to what is measured next."""

    def usage(self) -> cpu.Usage:
        """CPU seconds so far, by group."""
        return cpu.usage(self.parents)

    def events(self, connection: psycopg.Connection[Any]) -> int:
        """How many are stored."""
        row = connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()
        assert row is not None
        return int(row[0])

    def wait_drained(self, connection: psycopg.Connection[Any], expected: int) -> None:
        """Return once nothing waits any more; `expected` events are stored then."""
        raise NotImplementedError


class Ours(Stack):
    """The service, with a project of its own for each measurement."""

    title = "ours"
    table = TABLES[EVENTS]

    def __init__(self, **environment: str) -> None:
        super().__init__(None, **environment)

    def start(self) -> "Ours":
        super().start()
        self.target = Target(self.port, EVENTS, self.create_project("Bench").ingest_key)
        return self

    def begin(self) -> None:
        """Count what was stored before, and let what comes be another project's: each time an hour
        is counted anew all of its events are, also those of the measurements before."""
        self.manage("rollup")
        name = f"Bench {time.time_ns()}"
        self.target = replace(self.target, key=self.create_project(name).ingest_key)

    def aim(self, path: str) -> None:
        """Measure another endpoint from now on."""
        self.target, self.table = replace(self.target, path=path), TABLES[path]

    def wait_drained(self, connection: psycopg.Connection[Any], expected: int) -> None:
        waiting = "SELECT 1 FROM ingest_batch WHERE state = 'received' LIMIT 1"
        wait(lambda: connection.execute(waiting).fetchone() is None)
        assert self.events(connection) == expected, f"{expected} accepted, not all are stored"


class Naive(Stack):
    """The naive stack, on servers of its own."""

    title = "naive"
    table = "naive_event"

    def __init__(self, pool: str = "prefork") -> None:
        super().__init__()
        self._pool = pool

    def start(self) -> "Naive":
        words = ["--port", str(self.port), "--pool", self._pool]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.naive.up", *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        wait_for(
            lambda: f"ready {self.url}" in self.lines or self.process.poll() is not None,
            START_SECONDS,
            "the naive stack to say ready",
        )
        assert self.process.poll() is None, self.output
        key = next(line.removeprefix("key ") for line in self.lines if line.startswith("key "))
        self.target = Target(self.port, EVENTS, key)
        return self

    def wait_drained(self, connection: psycopg.Connection[Any], expected: int) -> None:
        socket, password = self.home / "run/redis.sock", self.secret("redis_password")
        with redis.Redis(unix_socket_path=str(socket), password=password) as broker:
            # Not by counting rows all the time: that would be work of ours on its bill.
            wait(lambda: not broker.llen("ingest"))
        wait(lambda: self.events(connection) >= expected)


def wait(condition: Callable[[], bool]) -> None:
    """Until it holds, looked at often enough for a measurement of seconds."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not drained within {DRAIN_SECONDS} s"
        time.sleep(_LOOK_SECONDS)
