"""Events per CPU-second, from the POST that is accepted to the row that is committed."""

import time
from dataclasses import dataclass

from tests.benchmarks import cpu
from tests.benchmarks.load import Generator, Plan
from tests.benchmarks.stacks import Stack

_LONGEST_SECONDS = 120


@dataclass(frozen=True)
class Run:
    """One run: what was stored, in which time, at which cost."""

    events: int
    seconds: float
    accepted_a_second: float
    used: cpu.Usage

    @property
    def per_cpu_second(self) -> float:
        return self.events / self.used.total

    @property
    def cost(self) -> dict[str, float]:
        """CPU seconds per 1,000 events, by group."""
        return {name: used / self.events * 1000 for name, used in self.used.groups.items()}


def run(stack: Stack, requests: int, events: int, seed: int, rows: int | None = None) -> Run:
    """Post as fast as it takes them, and wait until all are stored: `rows` of each request.

    `events` are what a request is said to hold; of a snapshot that is one, of many rows.
    """
    stack.begin()
    generator = Generator(Plan(stack.target, requests, events, seed, _LONGEST_SECONDS))
    with stack.superuser() as connection:
        expected = stack.events(connection) + requests * (rows or events)
        before, begun = stack.usage(), time.monotonic()
        outcome = generator.run()
        assert outcome.statuses in ({200: requests}, {202: requests}), outcome.statuses
        stack.wait_drained(connection, expected)
        seconds = time.monotonic() - begun
        used = stack.usage() - before
    return Run(requests * events, seconds, requests / outcome.seconds, used)
