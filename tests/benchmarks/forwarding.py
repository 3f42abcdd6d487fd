"""What forwarding to a collector costs, and what those who send notice of a collector's outage."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg

from tests.benchmarks import latency, throughput
from tests.benchmarks.load import TOLERATED_LAG, Generator, Outcome, Plan, percentile
from tests.benchmarks.stacks import Ours, wait
from tests.collector.server import Collector

MOST_MORE = 0.8  # CPU, than storing alone
MOST_SLOWER = 0.2
_WAITING = "SELECT 1 FROM ingest_delivery WHERE state = 'waiting' LIMIT 1"
_NOT_DELIVERED = "SELECT count(*) FROM ingest_delivery WHERE state <> 'delivered'"


class Forwarding(Ours):
    """The service with a collector: nothing is at its end before that has it."""

    title = "ours, forwarding"

    def __init__(self, collector: Collector) -> None:
        super().__init__(OTEL_COLLECTOR_ENDPOINT=collector.url)

    def wait_drained(self, connection: psycopg.Connection[Any], expected: int) -> None:
        super().wait_drained(connection, expected)
        wait(lambda: connection.execute(_WAITING).fetchone() is None)
        lost = connection.execute(_NOT_DELIVERED).fetchone()
        assert lost == (0,), f"{lost} batches were not delivered"


@dataclass(frozen=True)
class Pair:
    """The same batches stored, and stored and forwarded."""

    alone: throughput.Run
    forwarded: throughput.Run

    @property
    def more(self) -> float:
        """The part of storing's CPU that forwarding adds to it."""
        return sum(self.forwarded.cost.values()) / sum(self.alone.cost.values()) - 1


def costs(alone: Ours, forwarding: Forwarding, batches: int, runs: int) -> Iterator[Pair]:
    """By turns, with the same bodies for both."""
    for stack in (alone, forwarding):
        throughput.run(stack, 100, 100, seed=30)  # warm up
    for number in range(runs):
        yield Pair(
            throughput.run(alone, batches, 100, seed=31 + number),
            throughput.run(forwarding, batches, 100, seed=31 + number),
        )


@dataclass(frozen=True)
class Turn:
    """Answers while the collector is there, and while nobody listens in its place."""

    there: Outcome
    away: Outcome

    @property
    def is_trustworthy(self) -> bool:
        """Whether the generator itself was on time."""
        return all(percentile(of.lags, 99) < TOLERATED_LAG for of in (self.there, self.away))


def outages(
    forwarding: Forwarding, collector: Collector, rate: float, seconds: float, turns: int
) -> Iterator[Turn]:
    """By turns, the one that is first in each changing, so that what else the machine does is in
    both."""
    with forwarding.superuser() as connection:
        for turn in range(turns):
            found = {}
            for is_there in (True, False) if turn % 2 == 0 else (False, True):
                _settle(connection)
                with contextlib.nullcontext() if is_there else _away(collector):
                    found[is_there] = _answers(forwarding, rate, seconds, 2 * turn + is_there)
            yield Turn(found[True], found[False])
        _settle(connection)


@contextlib.contextmanager
def _away(collector: Collector) -> Iterator[None]:
    collector.stop()
    try:
        yield
    finally:
        collector.start()


def _settle(connection: psycopg.Connection[Any]) -> None:
    """Wait until nothing is left to be stored or delivered."""
    latency.settle(connection)
    wait(lambda: connection.execute(_WAITING).fetchone() is None)


def _answers(forwarding: Forwarding, rate: float, seconds: float, seed: int) -> Outcome:
    plan = Plan(
        forwarding.target, int(rate * seconds), 100, 400 + seed, seconds * 2,
        latency.CONNECTIONS, rate,
    )  # fmt: skip
    return latency.checked(Generator(plan).run())


def slower(turns: list[Turn]) -> float:
    """How much more the p99 is without a collector than with it: of the medians."""
    away = median(turn.away.percentile(99) for turn in turns)
    return away / median(turn.there.percentile(99) for turn in turns) - 1
