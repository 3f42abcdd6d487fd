"""One hour of events rolled up by the service's worker: CPU of all it takes, and its memory."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from tests.benchmarks import cpu, memory
from tests.benchmarks.stacks import Ours

MAKING_SECONDS = 600
# Megabytes that a worker may still grow by once half of an hour is counted.
MOST_LATE = 10
ROWS_AT_ONCE = 500_000
# What is counted by: values of each, as a fleet has them.
DIMENSIONS = {
    "version": "client_version",
    "os": "properties.os.name",
    "host": "properties.host",
    "plugin": "properties.plugin",
    "country": "properties.country",
}
# A session has 40 events of 12 names, a person two sessions an hour.
EVENTS = """
INSERT INTO ingest_event (project_id, occurred_at, batch_id, position, subject, session, name,
    category, client_version, properties)
SELECT %(project)s, %(hour)s + make_interval(secs => n * 3600.0 / %(rows)s),
    md5((n / 100)::text)::uuid, n %% 100,
    decode(md5((who / 2)::text), 'hex'), decode(md5('session ' || who), 'hex'),
    'event ' || (n * 7919 + who) %% 12 * (1 + who %% 2), 'application', '1.' || who %% 9,
    jsonb_build_object('plugin', 'Plugin ' || who %% 40, 'host', 'Host ' || who %% 8,
        'country', 'C' || who %% 60, 'value', n * 0.37, 'preset', md5(n::text),
        'duration_ms', n %% 977, 'os', jsonb_build_object('name', 'OS ' || who %% 3))
FROM (SELECT n, n %% (%(rows)s / 40) AS who
      FROM generate_series(%(first)s::int8, %(last)s) AS n) AS made
"""


@dataclass(frozen=True)
class Made:
    """An hour of so many events: CPU seconds of worker and PostgreSQL, seconds, and the megabytes
    by which the worker grew, all in all and over the second half of it."""

    events: int
    cpu_seconds: float
    seconds: float
    grown: float
    grown_late: float

    @property
    def per_cpu_second(self) -> float:
        return self.events / self.cpu_seconds


def run(ours: Ours, events: int) -> Made:
    """Roll up one hour of so many events of a project of its own."""
    with ours.superuser() as connection:
        project, hour = planted(ours, connection, events)
        return _make(ours, connection, project, hour, events)


def planted(ours: Ours, connection: psycopg.Connection[Any], events: int) -> tuple[int, datetime]:
    """A project with an hour of so many events, and that hour."""
    project = ours.create_project(f"Rollup {events}")
    connection.execute("SET statement_timeout = 0")
    row = connection.execute(
        "SELECT id FROM ingest_project WHERE slug = %s", [project.project]
    ).fetchone()
    assert row is not None
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=1)
    _fill(connection, row[0], hour, events)
    return row[0], hour


def _fill(connection: psycopg.Connection[Any], project: int, hour: datetime, events: int) -> None:
    for name, path in DIMENSIONS.items():
        connection.execute(
            "INSERT INTO aggregation_dimension (project_id, name, path, event)"
            " VALUES (%s, %s, %s, '')",
            [project, name, path],
        )
    for first in range(0, events, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, events) - 1
        connection.execute(EVENTS, {"project": project, "hour": hour, "rows": events,
                                    "first": first, "last": last})  # fmt: skip
    connection.execute("VACUUM ANALYZE ingest_event")
    connection.execute("CHECKPOINT")


def _make(
    ours: Ours, connection: psycopg.Connection[Any], project: int, hour: datetime, events: int
) -> Made:
    parents = {name: ours.parents[name] for name in ("rollup", "postgres")}
    watch = memory.Watch({"rollup": parents["rollup"]}, pause=0.1)
    watch.look()
    connection.execute(
        "INSERT INTO aggregation_dirtymark (project_id, kind, level, bucket, erasing, marked_at)"
        " VALUES (%s, 'events', 0, %s, false, now())",
        [project, hour],
    )
    before, begun = cpu.usage(parents), time.monotonic()

    def built() -> float | None:
        row = connection.execute(
            "SELECT seconds FROM aggregation_build WHERE project_id = %s AND level = 0", [project]
        ).fetchone()
        assert time.monotonic() - begun < MAKING_SECONDS, "the hour is not made"
        return row and row[0]

    growth = watch.until(lambda: built() is not None)
    seconds = built()
    assert seconds is not None
    # Not of the time before a schedule had it made.
    grown_late = watch.late(seconds)
    used = cpu.usage(parents) - before
    counted = connection.execute(
        "SELECT count FROM aggregation_eventhour WHERE project_id = %s AND dimension = ''",
        [project],
    ).fetchone()
    assert counted == (events,), counted
    return Made(
        events,
        used.total,
        seconds,
        max(one.largest - one.start for one in growth),
        grown_late,
    )
