"""One person's export: how fast it is made, and what the worker that makes it grows by."""

import json
import time
from dataclasses import dataclass

import psycopg

from privacy.subjects import Pseudonyms
from tests.benchmarks import memory
from tests.benchmarks.stacks import Ours
from tests.harness import Project

MAKING_SECONDS = 120
# Of so many events one is the person's, over so many days: their rows lie scattered.
SHARE = 5
DAYS = 5
EVENTS = """
INSERT INTO ingest_event (project_id, occurred_at, batch_id, position, subject, session, name,
    category, client_version, properties)
SELECT %(project)s, now() - make_interval(secs => n * 86400.0 * %(days)s / %(rows)s),
    md5((n / 100)::text)::uuid, n %% 100,
    CASE WHEN n %% %(share)s = 0 THEN %(subject)s ELSE decode(md5((n %% 1009)::text), 'hex') END,
    decode(md5((n / 50)::text), 'hex'), 'feature_used', 'application', '1.2.3',
    jsonb_build_object('plugin', 'Compressor', 'feature', 'threshold', 'value', n * 0.37,
        'preset', md5(n::text), 'duration_ms', n %% 977,
        'host', jsonb_build_object('name', 'Live', 'version', '11.3.' || n %% 7))
FROM generate_series(1, %(rows)s) AS n
"""


@dataclass(frozen=True)
class Made:
    """An export of so many events: from the request to the file, and the worker's megabytes."""

    events: int
    seconds: float
    grown: float
    file_bytes: int

    @property
    def a_second(self) -> float:
        return self.events / self.seconds


def run(ours: Ours, events: int, runs: int) -> list[Made]:
    """Exports of one person with so many events, among five times as many."""
    project = ours.create_project(f"Export {events}")
    user = f"user {events}"
    with ours.superuser() as connection:
        _fill(ours, connection, project, user, events)
        _make(ours, connection, project, "nobody", 0)  # warm up
        return [_make(ours, connection, project, user, events) for _ in range(runs)]


def _fill(
    ours: Ours, connection: psycopg.Connection, project: Project, user: str, events: int
) -> None:
    row = connection.execute(
        "SELECT id FROM ingest_project WHERE slug = %s", [project.project]
    ).fetchone()
    assert row is not None
    subject = Pseudonyms(ours.secret("pepper").encode(), row[0]).subject(user)
    connection.execute("SET statement_timeout = 0")
    connection.execute(EVENTS, {"project": row[0], "subject": subject, "days": DAYS,
                                "share": SHARE, "rows": events * SHARE})  # fmt: skip
    connection.execute("ANALYZE ingest_event")
    connection.execute("CHECKPOINT")


def _make(
    ours: Ours, connection: psycopg.Connection, project: Project, user: str, events: int
) -> Made:
    watch = memory.Watch({"privacy": ours.parents["privacy"]}, pause=0.02)
    watch.look()
    answer = ours.request(
        "POST",
        "/v1/telemetry/export",
        json.dumps({"user_id": user}).encode(),
        {
            "X-API-Key": project.secret_key,
            "Content-Type": "application/json",
            "Prefer": "respond-async",
        },
    )
    assert answer.status == 202, answer
    begun = time.monotonic()

    def state() -> tuple[str, int, int, float]:
        row = connection.execute(
            "SELECT state, events, bytes, extract(epoch FROM finished_at - requested_at)"
            " FROM privacy_exportrequest WHERE id = %s",
            [answer.json["export_id"]],
        ).fetchone()
        assert row is not None
        return row

    def over() -> bool:
        assert time.monotonic() - begun < MAKING_SECONDS, "the export is not made"
        return state()[0] not in {"waiting", "running"}

    growth = watch.until(over)
    how, found, size, seconds = state()
    assert (how, found) == ("done", events), (how, found)
    grown = max(one.largest - one.start for one in growth)
    return Made(events, float(seconds), grown, size)
