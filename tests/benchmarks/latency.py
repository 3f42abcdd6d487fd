"""How long a client waits for its answer, and an event for its row, at half the saturation rate."""

import contextlib
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from tests.benchmarks.load import TOLERATED_LAG, Generator, Outcome, Plan, percentile
from tests.benchmarks.stacks import Ours, Stack, wait
from tests.external import RedisOfOnesOwn
from tests.harness import data_folder

CONNECTIONS = 32


@dataclass(frozen=True)
class Latency:
    """Seconds from the scheduled moment of a request to its answer; and of storing, if watched."""

    p50: float
    p99: float
    slowest: float
    generator_p99_lag: float
    stored_p99: float | None = None

    @property
    def trustworthy(self) -> bool:
        """Whether the generator itself was on time."""
        return self.generator_p99_lag < TOLERATED_LAG


def saturation(stack: Stack, requests: int, events: int, seed: int) -> float:
    """Requests a second that are accepted when they come as fast as they are taken."""
    plan = Plan(stack.target, requests, events, seed, seconds=60, connections=16)
    outcome = checked(Generator(plan).run())
    return outcome.accepted / outcome.seconds


def at_rate(
    stack: Stack, rate: float, seconds: float, events: int, seed: int, *, storing: bool = True
) -> Latency:
    """Latency of requests that are due at `rate`, whatever became of those before."""
    requests = int(rate * seconds)
    plan = Plan(stack.target, requests, events, seed, seconds * 2, CONNECTIONS, rate)
    generator = Generator(plan)
    with stack.superuser() as connection:
        if storing:
            settle(connection)
        newest = _newest(connection)
        outcome = checked(generator.run())
        stored = _stored_p99(connection, newest) if storing else None
    return Latency(
        outcome.percentile(50),
        outcome.percentile(99),
        max(outcome.latencies),
        percentile(outcome.lags, 99),
        stored,
    )


def checked(outcome: Outcome) -> Outcome:
    """An outcome of which nothing was refused."""
    assert not outcome.refused, f"answers other than 200: {outcome.statuses}"
    return outcome


def _newest(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT coalesce(max(id), 0) FROM ingest_batch").fetchone()
    assert row is not None
    return int(row[0])


def settle(connection: psycopg.Connection) -> None:
    """Wait until nothing is left to be stored."""
    waiting = "SELECT 1 FROM ingest_batch WHERE state = 'received' LIMIT 1"
    wait(lambda: connection.execute(waiting).fetchone() is None)


def _stored_p99(connection: psycopg.Connection, newest: int) -> float:
    """Of the batches after `newest`: receipt to stored, in seconds."""
    settle(connection)
    row = connection.execute(
        """
        SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY stored_at - received_at)
        FROM ingest_batch WHERE id > %s AND state = 'stored'
        """,
        [newest],
    ).fetchone()
    assert row is not None
    return float(row[0].total_seconds())


@contextlib.contextmanager
def frozen_redis(stack: Stack) -> Iterator[None]:
    """Redis takes connections and answers nothing."""
    with stack.superuser() as connection:
        settle(connection)
    redis = stack.parents["redis"]
    redis.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        redis.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def ours_on_another_redis() -> Iterator[tuple[Ours, RedisOfOnesOwn]]:
    """The service, and the Redis that it uses."""
    folder = data_folder()
    redis = RedisOfOnesOwn(folder)
    try:
        with Ours(REDIS_URL=redis.url) as ours:
            yield ours, redis
    finally:
        redis.kill()
        shutil.rmtree(folder)
