"""One fault at work: the service it strikes, the load it strikes under, and what is measured."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil
import redis

from tests.faults.load import Load
from tests.faults.reckoning import Reckoning, reckon, value
from tests.harness import Service, wait_for

# Longer than anything promised: a machine under other loads is slow.
PATIENCE_SECONDS = 90.0


@dataclass(frozen=True)
class Outcome:
    """A fault's line in the table. Times are seconds."""

    times: int
    reckoning: Reckoning
    recovery: float  # the slowest
    latencies: list[float]  # of what was accepted during the fault
    refused: int  # 503s
    note: str = ""

    @property
    def p50(self) -> float:
        return statistics.median(self.latencies) if self.latencies else 0.0

    @property
    def p99(self) -> float:
        ordered = sorted(self.latencies)
        return ordered[int(len(ordered) * 0.99)] if ordered else 0.0


class Trial:
    """A project of its own on a running service, and the load on it."""

    def __init__(self, service: Service, name: str) -> None:
        self.service = service
        self.load = Load(service, service.create_project(f"{name} {time.time_ns()}"))
        self._windows: list[tuple[float, float]] = []
        self._recoveries: list[float] = []

    @contextlib.contextmanager
    def fault(self) -> Iterator[None]:
        """Around the fault: what is accepted meanwhile is measured."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._windows.append((begun, time.monotonic()))

    @contextlib.contextmanager
    def recovery(self) -> Iterator[None]:
        """Around the waiting for the service to be itself again: how long that takes is noted."""
        begun = time.monotonic()
        yield
        self._recoveries.append(time.monotonic() - begun)

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for `condition` longer than any promise; fails with what the service said."""
        wait_for(condition, PATIENCE_SECONDS, f"{what}; the service said:\n{self.tail}")

    def wait_for_storing(self) -> None:
        """Wait until something is stored that wasn't when this was called."""
        since = datetime.now(UTC)
        self.wait(lambda: self.stored_since(since), "storing to resume")

    def wait_for_accepting(self) -> None:
        """Wait until a request that began after this was called is answered with 2xx."""
        since = time.monotonic()
        self.wait(lambda: self.accepted_since(since), "accepting to resume")

    def under_load(self) -> None:
        """Wait until the load is accepted and stored: a fault should strike in the midst of it."""
        self.wait_for_accepting()
        self.wait_for_storing()

    def stored_since(self, moment: datetime) -> bool:
        """Whether a batch of this load was stored after `moment`."""
        query = "SELECT EXISTS (SELECT FROM ingest_batch WHERE stored_at > %s AND project_id = "
        query += "(SELECT id FROM ingest_project WHERE slug = %s))"
        return bool(value(self.service, query, moment, self.load.project.project))

    def accepted_since(self, moment: float) -> bool:
        """Whether a request that began after `moment` (monotonic) was answered with 2xx."""
        recent = self.load.batches[-200:]
        return any(told.begun > moment for batch in recent for told in batch.told)

    def outcome(self, times: int, note: str = "") -> Outcome:
        """The reckoning, with the measurements."""
        return Outcome(
            times=times,
            reckoning=reckon(self.service, self.load),
            recovery=max(self._recoveries, default=0.0),
            latencies=self._latencies(),
            refused=sum(batch.refused for batch in self.load.batches),
            note=note,
        )

    def _latencies(self) -> list[float]:
        told = [told for batch in self.load.batches for told in batch.told]
        return [t.seconds for t in told if any(a <= t.begun <= b for a, b in self._windows)]

    @property
    def tail(self) -> str:
        """The last lines the service printed."""
        return "\n".join(self.service.lines[-40:])


# --- what faults are made of ---


def kill(*processes: psutil.Process) -> None:
    """SIGKILL to processes of the service under test."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def frozen(*processes: psutil.Process) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def kill_again_and_again(service: Service, role: str, seconds: float) -> int:
    """Kill whatever plays the role as soon as it is there, for so long; how often."""
    deadline, kills = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        for process in service.processes(role)[:1]:
            kill(process)
            kills += 1
        time.sleep(0.02)
    return kills


def replaced(service: Service, role: str, before: psutil.Process) -> bool:
    """Whether another process plays the role now."""
    return any(process.pid != before.pid for process in service.processes(role)[:1])


@contextlib.contextmanager
def broker(service: Service) -> Iterator[redis.Redis]:
    """A connection to the service's Redis."""
    secrets = json.loads((service.data_dir / "secrets.json").read_text())
    servers = service.data_dir / "servers"
    home = servers.resolve() if servers.is_symlink() else service.data_dir
    client = redis.Redis(
        unix_socket_path=str(home / "run/redis.sock"),
        password=secrets["redis_password"],
        socket_timeout=2,
    )
    with contextlib.closing(client):
        yield client


def broker_answers(service: Service) -> bool:
    """Whether Redis is there."""
    try:
        with broker(service) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def remains(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of `processes` that still run."""
    return [process for process in processes if process.is_running() and not _zombie(process)]


def _zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
