"""Memory of the web and worker processes: over a soak, and while a backlog drains."""

import signal
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from tests.benchmarks import cpu
from tests.benchmarks.load import Generator, Plan
from tests.benchmarks.stacks import Ours

MEGABYTE = 1024**2
ROLES = ("web", "ingest", "default", "privacy", "rollup", "forward")


@dataclass(frozen=True)
class Growth:
    """Resident megabytes of one process, and how much it grew a minute over the second half."""

    name: str
    start: float
    largest: float
    slope: float


class Watch:
    """Looks at the processes again and again, until told that it is over."""

    def __init__(self, parents: dict[str, psutil.Process], pause: float = 0.5) -> None:
        self._parents = {role: parents[role] for role in ROLES if role in parents}
        self._pause = pause
        self._begun = time.monotonic()
        self._seen: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)

    def until(self, over: Callable[[], bool]) -> list[Growth]:
        while not over():
            self.look()
            time.sleep(self._pause)
        return self.growth()

    def look(self) -> None:
        moment = time.monotonic() - self._begun
        for role, parent in self._parents.items():
            for process in cpu.tree(parent):
                name = role if process == parent else f"{role}, child"
                if size := cpu.rss(process):
                    self._seen[name, process.pid].append((moment, size / MEGABYTE))

    def growth(self) -> list[Growth]:
        """One line a process, the ones that ended included."""
        return [
            Growth(name, seen[0][1], max(size for _, size in seen), slope(seen[len(seen) // 2 :]))
            for (name, _), seen in self._seen.items()
        ]

    def late(self, seconds: float) -> float:
        """Megabytes by which a process was larger in the second half of the last `seconds` than it
        had been in the first; of the one that grew most."""
        end = time.monotonic() - self._begun
        middle, start = end - seconds / 2, end - seconds
        grown = [0.0]
        for seen in self._seen.values():
            before = [size for moment, size in seen if start <= moment < middle]
            after = [size for moment, size in seen if moment >= middle]
            if before and after:
                grown.append(max(after) - max(before))
        return max(grown)


def slope(seen: list[tuple[float, float]]) -> float:
    """Megabytes a minute, by least squares."""
    mean_x = sum(x for x, _ in seen) / len(seen)
    mean_y = sum(y for _, y in seen) / len(seen)
    spread = sum((x - mean_x) ** 2 for x, _ in seen)
    if not spread:
        return 0.0
    return 60 * sum((x - mean_x) * (y - mean_y) for x, y in seen) / spread


def soak(ours: Ours, seconds: float, rate: float, seed: int) -> list[Growth]:
    """Memory under a steady load."""
    requests = int(seconds * rate)
    generator = Generator(Plan(ours.target, requests, 100, seed, seconds * 2, rate=rate))
    watch = Watch(ours.parents)
    end = time.monotonic() + seconds
    generator.start()
    growth = watch.until(lambda: time.monotonic() > end)
    outcome = generator.finish()
    assert not outcome.refused, outcome.statuses
    return growth


@dataclass(frozen=True)
class Backlog:
    """A backlog's way: accepted while nobody stores, then stored."""

    events: int
    accepting: cpu.Usage
    draining: cpu.Usage
    drain_seconds: float
    growth: list[Growth]

    @property
    def drained_a_second(self) -> float:
        return self.events / self.drain_seconds

    def cost(self, used: cpu.Usage) -> dict[str, float]:
        """CPU seconds per 1,000 events, by group."""
        return {name: seconds / self.events * 1000 for name, seconds in used.groups.items()}


def backlog(ours: Ours, batches: int, seed: int) -> Backlog:
    """Accept `batches` of 100 while the storing worker stands still, then let it store them."""
    generator = Generator(Plan(ours.target, batches, 100, seed, seconds=100))
    workers = cpu.tree(ours.parents["ingest"])
    with ours.superuser() as connection:
        expected = ours.events(connection) + batches * 100
        begun = ours.usage()
        _signal(workers, signal.SIGSTOP)
        try:
            outcome = generator.run()
            accepted = ours.usage()
        finally:
            _signal(workers, signal.SIGCONT)
        assert outcome.accepted == batches, outcome.statuses
        started = time.monotonic()
        waiting = "SELECT 1 FROM ingest_batch WHERE state = 'received' LIMIT 1"
        watch = Watch({"ingest": ours.parents["ingest"]}, pause=0.1)
        watch.look()
        growth = watch.until(lambda: connection.execute(waiting).fetchone() is None)
        seconds = time.monotonic() - started
        drained = ours.usage()
        ours.wait_drained(connection, expected)
    return Backlog(batches * 100, accepted - begun, drained - accepted, seconds, growth)


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        process.send_signal(number)
