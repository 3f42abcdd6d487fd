"""Questions about numbers over HTTP: how long each takes to be answered, over many rollups."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

from tests.benchmarks.stacks import Ours

ASKED = 30
NAMES = 100
SERIES = 10
# The total, and names of which the rarest have too few people to be told.
EVENTS = """
INSERT INTO aggregation_event{level} (project_id, dimension, bucket, value, count, bytes, people,
    sessions, people_sketch, sessions_sketch)
SELECT %(project)s, CASE name WHEN 0 THEN '' ELSE 'event' END, bucket,
    CASE name WHEN 0 THEN '' ELSE 'event ' || name END, 3 * people, 300 * people, people, people,
    decode(repeat('ab', least(people * 4, 4096)::int4), 'hex'), ''
FROM generate_series(0, %(names)s) AS name,
    generate_series(%(start)s::timestamptz, %(end)s, interval '1 {level}') AS bucket,
    LATERAL (SELECT (5000 / (name + 1) + (name * extract(day FROM bucket)) %% 7)::int8 AS people) n
WHERE people > 0
"""
# Each has some hundred log-spaced buckets.
POINTS = """
INSERT INTO aggregation_metrichour (project_id, name, bucket, series, kind, cumulative, node, tags,
    count, people, people_sketch, sum, min, max, quantiles)
SELECT %(project)s, 'latency_ms', bucket, decode(md5(series::text), 'hex'), 'histogram', false,
    'node ' || series, '{{}}', 7200, 0, '', 7200, 1, 9, quantiles
FROM generate_series(1, %(series)s) AS series,
    generate_series(%(start)s::timestamptz, %(end)s, interval '1 hour') AS bucket,
    (SELECT string_agg(int8send(((40100 + key) << 46) + 1 + key %% 71), '') AS quantiles
     FROM generate_series(1, 100::int8) AS key) AS histogram
"""


@dataclass(frozen=True)
class Question:
    """What is asked, and in how many milliseconds it is to be answered."""

    what: str
    path: str
    most: float


@dataclass(frozen=True)
class Answered:
    """How many milliseconds a question took, each time."""

    question: Question
    milliseconds: list[float]

    @property
    def median(self) -> float:
        return median(self.milliseconds)


def run(ours: Ours) -> Iterator[Answered]:
    """Plant rollups, and ask."""
    project = ours.create_project("Queries")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with ours.superuser() as connection:
        row = connection.execute(
            "SELECT id FROM ingest_project WHERE slug = %s", [project.project]
        ).fetchone()
        assert row is not None
        given = {"project": row[0], "names": NAMES, "series": SERIES}
        starts = {
            "hour": today - timedelta(days=29),
            "day": (today - timedelta(days=100)).replace(day=1),
            "month": (today - timedelta(days=100)).replace(day=1),
        }
        for level, start in starts.items():
            connection.execute(EVENTS.format(level=level), given | {"start": start, "end": today})
        span = {"start": starts["hour"], "end": today + timedelta(hours=23)}
        connection.execute(POINTS.format(), given | span)
        connection.execute("VACUUM ANALYZE")
    for question in _questions(today):
        yield Answered(question, [*_asked(ours, project.secret_key, question)])


def _questions(today: datetime) -> list[Question]:
    days = {number: (today - timedelta(days=number - 1)).date() for number in (30, 90)}
    return [
        Question(
            f"90 days of {NAMES} names by day",
            f"/v1/query/events?from={days[90]}&group_by=event",
            50,
        ),
        Question(
            f"30 days of p95 by hour, of {SERIES} series",
            f"/v1/query/metrics?from={days[30]}&interval=hour&name=latency_ms&agg=p95",
            100,
        ),
    ]


def _asked(ours: Ours, key: str, question: Question) -> Iterator[float]:
    for number in range(ASKED + 1):
        begun = time.monotonic()
        answer = ours.request("GET", question.path, headers={"X-API-Key": key})
        took = (time.monotonic() - begun) * 1000
        assert answer.status == 200, answer.text
        # The first finds nothing in memory.
        if number:
            yield took
