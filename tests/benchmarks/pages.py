"""The admin's pages of the ledger over ten million rows: each page and filter, the slowest time."""

import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from http.cookiejar import CookieJar

import psycopg

from tests.benchmarks.stacks import Ours

LOOKS = 5
MOST_MILLISECONDS = 500

# Mostly stored, of two projects; some of everything else, of a project that hardly sends too.
LEDGER = """
INSERT INTO ingest_batch (id, day, project_id, batch_id, format, state, received_at, stored_at,
    received, stored, duplicate, rejected, dead, wire_bytes, body_bytes, error, request_id, payload)
SELECT nextval('ingest_batch_id_seq'), (at AT TIME ZONE 'UTC')::date, project,
    CASE WHEN state <> 'rejected' THEN gen_random_uuid() END, format, state, at,
    CASE WHEN state = 'stored' THEN at + interval '60 ms' END, 100,
    100 * (state = 'stored')::int, 100 * (state = 'duplicate')::int,
    100 * (state = 'rejected')::int, 100 * (state = 'dead')::int,
    5600, 41000,
    CASE WHEN state = 'dead' THEN '22P0' || n %% 7 || ': invalid' WHEN state = 'rejected'
        THEN 'missing_field' ELSE '' END,
    md5(n::text), CASE WHEN state IN ('dead', 'received') THEN decode(repeat('ab', 600), 'hex') END
FROM (
    SELECT n, %(start)s::timestamptz + n * (%(end)s::timestamptz - %(start)s) / %(rows)s AS at,
        CASE WHEN n %% 10000 = 1 THEN %(rare)s WHEN n %% 3 = 0 THEN %(second)s ELSE %(first)s END
            AS project,
        CASE WHEN n %% 100000 = 7 THEN 'snapshot' WHEN n %% 5 = 0 THEN 'metrics' ELSE 'events' END
            AS format,
        CASE WHEN n %% 1000 < 30 THEN 'duplicate' WHEN n %% 1000 < 50 THEN 'rejected'
            WHEN n %% 1000 < 55 THEN 'dead' WHEN n %% 1000 = 55 THEN 'discarded'
            WHEN n %% 1000 = 56 THEN 'received' ELSE 'stored' END AS state
    FROM generate_series(%(from)s, %(to)s) AS n
) AS made
"""
REJECTED = """
INSERT INTO ingest_rejectedevent
    (day, project_id, batch, format, received_at, position, code, field, message, shape)
SELECT day, project_id, id, format, received_at, position,
    (ARRAY['missing_field', 'too_old', 'invalid_type'])[1 + id %% 3], 'timestamp',
    'Missing required field: timestamp', '{"event": "text", "user_id": "text"}'
FROM ingest_batch, generate_series(0, 4) AS position
WHERE state = 'rejected' AND day >= %(since)s::date
"""
EVENTS = """
INSERT INTO ingest_event
    (project_id, occurred_at, batch_id, position, name, category, properties)
SELECT project_id, received_at - interval '5 s', batch_id, position, 'made', 'application', '{}'
FROM ingest_batch, generate_series(0, 99) AS position
WHERE state = 'stored' AND received_at >= %(end)s::timestamptz - %(long)s::interval
    AND format = 'events'
"""
ROWS_AT_ONCE = 500_000


@dataclass(frozen=True)
class Look:
    """How long a page took, in milliseconds: the first time, and at most."""

    page: str
    first: float
    slowest: float


def run(rows: int) -> Iterator[tuple[int, list[Look]]]:
    """Days, and the looks at every page over so many batches in them."""
    with Ours(TELEMETRY_BACKLOG_ALARM_SECONDS="86400") as ours, ours.superuser() as connection:
        for name in ("Second", "Rare"):
            ours.create_project(name)
        ids = dict(connection.execute("SELECT slug, id FROM ingest_project").fetchall())
        projects = {"first": ids["bench"], "second": ids["second"], "rare": ids["rare"]}
        with stopped_workers(ours):
            for days in (1, 31):
                fill(connection, rows, days, projects)
                yield days, looks(ours, connection, projects)


@contextmanager
def stopped_workers(ours: Ours) -> Iterator[None]:
    """Nobody stores what is made to wait."""
    processes = ours.processes("ingest")
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def fill(connection: psycopg.Connection, rows: int, days: int, projects: dict[str, int]) -> None:
    """A ledger of so many rows over the last `days`, or over today's hours where it is one."""
    connection.execute("SET statement_timeout = 0")
    connection.execute("TRUNCATE ingest_batch, ingest_rejectedevent, ingest_event")
    row = connection.execute(
        "SELECT greatest(now() - make_interval(days => %s), date_trunc('day', now(), 'UTC')"
        " - make_interval(days => %s)), now()",
        [days, days - 1],
    ).fetchone()
    assert row is not None
    start, end = row
    for number in range(32):
        for table in ("ingest_batch", "ingest_rejectedevent"):
            _make_day(connection, table, end.date() - timedelta(days=number))
    for first in range(0, rows, ROWS_AT_ONCE):
        span = {"from": first + 1, "to": min(first + ROWS_AT_ONCE, rows)}
        connection.execute(LEDGER, {"start": start, "end": end, "rows": rows, **span, **projects})
    connection.execute(REJECTED, {"since": end.date() - timedelta(days=6)})
    connection.execute(EVENTS, {"end": end, "long": "60 s" if days == 1 else "600 s"})
    connection.execute("ANALYZE ingest_batch, ingest_rejectedevent, ingest_event")


def _make_day(connection: psycopg.Connection, table: str, day: date) -> None:
    """A day further back than the service makes any."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS partitions.{table}_{day:%Y%m%d} PARTITION OF {table}"
        f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    )


def looks(ours: Ours, connection: psycopg.Connection, projects: dict[str, int]) -> list[Look]:
    """Each page several times, as an administrator."""
    opener = _logged_in(ours)
    return [_look(opener, ours.url, page) for page in _pages(connection, projects)]


def _pages(connection: psycopg.Connection, projects: dict[str, int]) -> Iterator[str]:
    """Every page, every filter, and pairs of those that no index has together."""
    states = ("received", "stored", "rejected", "duplicate", "dead", "discarded")
    ages = ("under-10m", "under-1h", "under-1d", "over-1m", "over-1h", "over-1d")
    first, rare = projects["first"], projects["rare"]
    single = [
        *(f"state={state}" for state in states),
        *(f"project={project}" for project in projects.values()),
        *(f"format={name}" for name in ("events", "snapshot", "submit")),
        *(f"age={age}" for age in ages),
        "day=" + _today(connection),
        "error=missing_field",
        "error=nothing",
    ]
    ledger = "/admin/ingest/batch/"
    yield ledger
    yield from (f"{ledger}?{asked}" for asked in single)
    yield from (
        f"{ledger}?{one}&{other}"
        for number, one in enumerate(single)
        for other in single[number + 1 :]
        if one.partition("=")[0] != other.partition("=")[0]
    )
    yield f"{ledger}?state=stored&project={rare}&format=snapshot&age=over-1d"
    yield f"{ledger}?p=200"
    yield f"{ledger}?p=200&project={first}&state=stored"
    yield from (f"{ledger}?q={term}" for term in _terms(connection))
    yield ledger + _key(connection, "rejected") + "/change/"
    yield ledger + _key(connection, "stored") + "/change/"
    dead = "/admin/ingest/deadbatch/"
    asked = (
        "", f"project={first}", f"project={rare}", "format=submit", "error=22P03: invalid",
        "error=none", f"day={_today(connection)}", f"project={rare}&error=none", "p=200",
    )  # fmt: skip
    yield from (f"{dead}?{urllib.parse.quote(one, safe='=&')}" for one in asked)
    yield dead + _key(connection, "dead") + "/change/"
    rejected = "/admin/ingest/rejectedevent/"
    asked = (
        "", f"project={first}", f"project={rare}", "code=too_old", "code=none",
        f"project={rare}&code=none", "field=timestamp&format=snapshot", "p=200",
    )  # fmt: skip
    yield from (f"{rejected}?{one}" for one in asked)
    recent = "/admin/ingest/event/"
    batch_id = _one(connection, "SELECT batch_id FROM ingest_batch WHERE state = 'stored' LIMIT 1")
    asked = (
        "", f"project={first}", f"project={rare}", f"project={first}&name=made",
        f"project={first}&name=none", f"project={first}&batch={batch_id}",
        f"project={first}&format=snapshot",
    )  # fmt: skip
    yield from (f"{recent}?{one}" for one in asked)


def _terms(connection: psycopg.Connection) -> Iterator[str]:
    """A ledger id, ids of batches, and request ids: known and unknown."""
    yield _one(connection, "SELECT id FROM ingest_batch LIMIT 1")
    yield "1"
    yield _one(connection, "SELECT batch_id FROM ingest_batch WHERE state = 'stored' LIMIT 1")
    yield "00000000-0000-4000-8000-000000000000"
    yield "no-such-request"


def _key(connection: psycopg.Connection, state: str) -> str:
    return _one(
        connection,
        f"SELECT day || '-' || id FROM ingest_batch WHERE state = '{state}'"
        " ORDER BY day DESC, id DESC LIMIT 1",
    )


def _today(connection: psycopg.Connection) -> str:
    return _one(connection, "SELECT (now() AT TIME ZONE 'UTC')::date")


def _one(connection: psycopg.Connection, query: str) -> str:
    row = connection.execute(query).fetchone()
    assert row is not None
    return str(row[0])


def _logged_in(ours: Ours) -> urllib.request.OpenerDirector:
    """As the administrator whose password `up` has shown."""
    password = re.search(r"password +(\S+)", ours.output)
    assert password is not None
    jar = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    address = f"{ours.url}/admin/login/"
    opener.open(address).read()
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    form = {"username": "admin", "password": password[1], "csrfmiddlewaretoken": token}
    body = urllib.parse.urlencode(form).encode()
    opener.open(urllib.request.Request(address, body, {"Referer": address})).read()
    assert any(cookie.name == "sessionid" for cookie in jar), "not logged in"
    return opener


def _look(opener: urllib.request.OpenerDirector, url: str, page: str) -> Look:
    times = []
    for _ in range(LOOKS):
        begun = time.perf_counter()
        with opener.open(url + page) as answer:
            answer.read()
            assert answer.status == 200, page
            assert answer.url == url + page, f"{page} led to {answer.url}"
        times.append((time.perf_counter() - begun) * 1000)
    return Look(page, times[0], max(times))
