"""What rolling up does to those who send: answers while an hour of events is counted, and while the
worker that counts is paused, by turns."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg

from tests.benchmarks import cpu, latency, rollups
from tests.benchmarks.load import TOLERATED_LAG, Generator, Outcome, Plan, percentile
from tests.benchmarks.stacks import Ours, wait

# Of the hour that is counted once in each turn. An hour that goes on changing takes a worker's time
# for a twenty-first part at most (`aggregation.marks.PATIENCE`): of ten seconds for half a second,
# in which some 75,000 events are counted.
EVENTS = 100_000
# Workers look at pauses this often.
_OBEY_SECONDS = 5.0
_IDLE_SECONDS, _IDLE_CPU_SECONDS = 0.5, 0.02
# Rolling up is asked for all the time.
OFTEN = """
    WITH often AS (
        INSERT INTO django_celery_beat_intervalschedule (every, period) VALUES (1, 'seconds')
        RETURNING id
    ), changed AS (
        UPDATE django_celery_beat_periodictask SET interval_id = often.id FROM often
        WHERE name = 'roll up hours'
    )
    UPDATE django_celery_beat_periodictasks SET last_update = now()
"""
PAUSE = """
    INSERT INTO telemetry_site_pause (queue, since, by, reason)
    VALUES ('rollup', now(), 'benchmark', 'what does it cost?')
"""
RESUME = "DELETE FROM telemetry_site_pause WHERE queue = 'rollup'"
# Without its last build the hour's turn is at once.
MARK = """
    WITH forgotten AS (DELETE FROM aggregation_build WHERE project_id = %(project)s)
    INSERT INTO aggregation_dirtymark (project_id, kind, level, bucket, erasing, marked_at)
    VALUES (%(project)s, 'events', 0, %(hour)s, false, '2000-01-01')
"""
DIRTY = "SELECT FROM aggregation_dirtymark WHERE level = 0 LIMIT 1"
BUILT = "SELECT seconds FROM aggregation_build WHERE project_id = %s AND level = 0"


@dataclass(frozen=True)
class Turn:
    """Answers while nothing is counted, and while an hour is, which took `counting` seconds."""

    paused: Outcome
    running: Outcome
    counting: float

    @property
    def is_trustworthy(self) -> bool:
        """Whether the generator itself was on time."""
        return all(percentile(of.lags, 99) < TOLERATED_LAG for of in (self.paused, self.running))


def run(ours: Ours, rate: float, seconds: float, turns: int) -> Iterator[Turn]:
    """By turns, so that what else the machine does is in both."""
    with ours.superuser() as connection:
        project, hour = rollups.planted(ours, connection, EVENTS)
        connection.execute(OFTEN)
        for turn in range(turns):
            connection.execute(PAUSE)
            _wait_idle(ours)
            paused = _answers(ours, rate, seconds, 2 * turn, lambda: None)
            connection.execute(RESUME)
            # What was sent while nothing was counted is counted now, once, and not meanwhile.
            wait(lambda: connection.execute(DIRTY).fetchone() is None)
            _wait_idle(ours)
            running = _answers(
                ours, rate, seconds, 2 * turn + 1,
                lambda: connection.execute(MARK, {"project": project, "hour": hour}),
            )  # fmt: skip
            yield Turn(paused, running, _counting(connection, project))


def _answers(
    ours: Ours, rate: float, seconds: float, seed: int, begin: Callable[[], object]
) -> Outcome:
    """What comes of requests at a rate, the first of which is sent when something has begun."""
    requests = int(rate * seconds)
    plan = Plan(ours.target, requests, 100, 300 + seed, seconds * 2, latency.CONNECTIONS, rate)
    generator = Generator(plan)
    begin()
    return latency.checked(generator.run())


def _counting(connection: psycopg.Connection[Any], project: int) -> float:
    """Seconds that making the hour took, which may end a little after the last answer."""

    def built() -> float | None:
        row = connection.execute(BUILT, [project]).fetchone()
        return row and row[0]

    wait(lambda: built() is not None)
    return built() or 0.0


def _wait_idle(ours: Ours) -> None:
    """Until the worker obeys a pause, and is through with what it was at."""
    parents = {"rollup": ours.parents["rollup"]}
    time.sleep(_OBEY_SECONDS)

    def is_idle() -> bool:
        before = cpu.usage(parents)
        time.sleep(_IDLE_SECONDS)
        return (cpu.usage(parents) - before).total < _IDLE_CPU_SECONDS

    wait(is_idle)


def ratio(turns: list[Turn]) -> float:
    """The p99 while an hour is counted, in p99s while nothing is: of the medians."""
    running = median(turn.running.percentile(99) for turn in turns)
    return running / median(turn.paused.percentile(99) for turn in turns)
