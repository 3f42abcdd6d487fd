"""Days of the tables that grow: made ahead of time, detached and dropped behind it.

`CREATE … PARTITION OF` and `DROP` lock the parent against everybody, so that one open reader stops
all ingest behind it. Here a day is made beside its parent and then attached, and detached
concurrently before it is dropped; every lock is waited for briefly and tried for again.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from django.conf import settings
from django.db import connections
from django.utils import timezone
from psycopg import sql

logger = logging.getLogger(__name__)

SCHEMA = "partitions"
DAYS_AHEAD = 7
DAYS_BEHIND = 32

_TRIES = 20
_PAUSE_SECONDS = 0.5
# One maintainer a table at a time; the number is ours alone in this database.
_ADVISORY_LOCK = 7_304_521


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A table partitioned by day.

    `bound` is how a day's first moment is written for `column`; days from `behind` before today on
    are made ahead of need; what is older than `keep` days goes. `before_drop` runs in the
    transaction that drops a day.
    """

    table: str
    column: str
    bound: str
    behind: int
    keep: int
    before_drop: LiteralString | None = None

    def partition(self, day: date) -> str:
        return f"{self.table}_{day:%Y%m%d}"

    def day(self, partition: str) -> date:
        return datetime.strptime(partition[-8:], "%Y%m%d").date()  # noqa: DTZ007 a day, no moment


# What the ledger's dropped days added up to stays, by the hour.
_SUM_LEDGER: LiteralString = """
INSERT INTO ingest_ledgersum AS sums
    (project_id, hour, format, batches, received, stored, duplicate, rejected, suppressed, dead)
SELECT project_id, date_trunc('hour', received_at, 'UTC'), format, count(*), sum(received),
    sum(stored), sum(duplicate), sum(rejected), sum(suppressed), sum(dead)
FROM {partition} GROUP BY 1, 2, 3
ON CONFLICT (project_id, hour, format) DO UPDATE SET
    batches = sums.batches + EXCLUDED.batches, received = sums.received + EXCLUDED.received,
    stored = sums.stored + EXCLUDED.stored, duplicate = sums.duplicate + EXCLUDED.duplicate,
    rejected = sums.rejected + EXCLUDED.rejected,
    suppressed = sums.suppressed + EXCLUDED.suppressed, dead = sums.dead + EXCLUDED.dead
"""

LEDGER = Partitioned("ingest_batch", "day", "{day}", 1, settings.LEDGER_RETENTION_DAYS, _SUM_LEDGER)
REJECTED = Partitioned("ingest_rejectedevent", "day", "{day}", 1, settings.REJECTED_RETENTION_DAYS)
DELIVERIES = Partitioned("ingest_delivery", "day", "{day}", 1, settings.LEDGER_RETENTION_DAYS)
EVENTS = Partitioned(
    "ingest_event", "occurred_at", "{day} 00:00+00", DAYS_BEHIND, settings.EVENT_RETENTION_DAYS
)
POINTS = Partitioned(
    "ingest_metricpoint",
    "occurred_at",
    "{day} 00:00+00",
    DAYS_BEHIND,
    settings.METRIC_RETENTION_DAYS,
)
# What is rolled up of them, by the hour.
EVENT_HOURS = Partitioned(
    "aggregation_eventhour",
    "bucket",
    "{day} 00:00+00",
    DAYS_BEHIND,
    settings.EVENT_RETENTION_DAYS,
)
METRIC_HOURS = Partitioned(
    "aggregation_metrichour",
    "bucket",
    "{day} 00:00+00",
    DAYS_BEHIND,
    max(settings.METRIC_HOUR_RETENTION_DAYS, settings.METRIC_RETENTION_DAYS),
)
TABLES = (LEDGER, REJECTED, DELIVERIES, EVENTS, POINTS, EVENT_HOURS, METRIC_HOURS)


def maintain() -> None:
    """Make the days around today, and drop those past their time. Run at the start and hourly."""
    failures: list[psycopg.Error] = []
    with _maintainer() as connection:
        for table in TABLES:
            try:
                _maintain(connection, table, timezone.now().date())
            except psycopg.Error as error:
                # The other tables need their days all the same.
                logger.error("days of %s: %s", table.table, error.diag.message_primary)
                failures.append(error)
    if failures:
        raise failures[0]


def attached_days() -> dict[str, set[date]]:
    """The days that each table has a partition for."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            """
            SELECT parent.relname, day.relname FROM pg_inherits i
            JOIN pg_class parent ON parent.oid = i.inhparent
            JOIN pg_class day ON day.oid = i.inhrelid
            WHERE parent.relname = ANY(%s) AND day.relkind = 'r' AND NOT i.inhdetachpending
            """,
            [[table.table for table in TABLES]],
        )
        names = cursor.fetchall()
    return {
        table.table: {table.day(name) for parent, name in names if parent == table.table}
        for table in TABLES
    }


def exists(table: Partitioned, day: date) -> bool:
    """Whether a day of a table is still there."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{SCHEMA}.{table.partition(day)}"])
        return bool(cursor.fetchone()[0])


def days(table: Partitioned) -> list[sql.Identifier]:
    """The days there are of a table, those among them that are detached and not dropped yet."""
    connection = connections["default"]
    connection.ensure_connection()
    return [sql.Identifier(SCHEMA, name) for name, *_ in _days(connection.connection, table)]


def days_there(table: Partitioned) -> list[date]:
    """The same as dates."""
    connection = connections["default"]
    connection.ensure_connection()
    return [table.day(name) for name, *_ in _days(connection.connection, table)]


def past_their_time() -> list[tuple[str, bool]]:
    """The days that `maintain` would drop, and those it keeps since there is work left on them:
    name, whether it goes."""
    connection = connections["default"]
    connection.ensure_connection()
    found = []
    for table in TABLES:
        last = _last_to_drop(table, timezone.now().date())
        names = [name for name, *_ in _days(connection.connection, table)]
        found += [
            (name, _is_settled(connection.connection, table, name))
            for name in names
            if table.day(name) <= last
        ]
    return found


def _maintain(connection: psycopg.Connection[Any], table: Partitioned, today: date) -> None:
    for offset in range(-min(table.behind, table.keep), DAYS_AHEAD + 1):
        _make(connection, table, today + timedelta(days=offset))
    _expire(connection, table, _last_to_drop(table, today))


def _last_to_drop(table: Partitioned, today: date) -> date:
    return today - timedelta(days=table.keep + 1)


def missing(days: Iterable[date]) -> list[str]:
    """The partitions of these days that no table has attached."""
    wanted = [table.partition(day) for table in TABLES for day in days]
    with connections["default"].cursor() as cursor:
        cursor.execute(
            """
            SELECT wanted FROM unnest(%s::text[]) AS wanted WHERE NOT EXISTS (
                SELECT FROM pg_inherits
                WHERE inhrelid = to_regclass(%s || '.' || wanted) AND NOT inhdetachpending
            )
            """,
            [wanted, SCHEMA],
        )
        return [name for (name,) in cursor.fetchall()]


def ensure(table: Partitioned, day: date) -> None:
    """Make one day, for a writer that found it missing."""
    with _maintainer() as connection:
        _make(connection, table, day)


@contextmanager
def _maintainer() -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own, outside any transaction, that one maintainer has at a time."""
    wrapper = connections.create_connection("default")
    wrapper.ensure_connection()
    connection = wrapper.connection
    try:
        connection.execute("SET lock_timeout = '1s'")
        lock = sql.SQL("SELECT pg_advisory_lock({})").format(sql.Literal(_ADVISORY_LOCK))
        _persist(connection, lock)
        yield connection
    finally:
        wrapper.close()


def _make(connection: psycopg.Connection[Any], table: Partitioned, day: date) -> None:
    name = table.partition(day)
    if _is_attached(connection, name):
        return
    words = {
        "parent": sql.Identifier(table.table),
        "partition": sql.Identifier(SCHEMA, name),
        "column": sql.Identifier(table.column),
        "range": sql.Identifier(f"{name}_range"),
        "start": sql.Literal(table.bound.format(day=day)),
        "end": sql.Literal(table.bound.format(day=day + timedelta(days=1))),
    }
    # The CHECK tells ATTACH that it needn't look at the rows; afterwards it would only cost time.
    statement = sql.SQL("""
        CREATE TABLE IF NOT EXISTS {partition} (LIKE {parent} INCLUDING ALL);
        ALTER TABLE {partition}
            ADD CONSTRAINT {range} CHECK ({column} >= {start} AND {column} < {end});
        ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({start}) TO ({end});
        ALTER TABLE {partition} DROP CONSTRAINT {range};
    """).format(**words)
    _persist(connection, statement, in_transaction=True)
    logger.debug("partition %s made", name)


def _is_attached(connection: psycopg.Connection[Any], name: str) -> bool:
    query = "SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%s)"
    return connection.execute(query, [f"{SCHEMA}.{name}"]).fetchone() is not None


def _expire(connection: psycopg.Connection[Any], table: Partitioned, last: date) -> None:
    """Detach and drop the days up to `last`; goes on where a killed run stopped."""
    for name, attached, pending in _days(connection, table):
        if table.day(name) > last or not _is_settled(connection, table, name):
            continue
        words = {
            "parent": sql.Identifier(table.table),
            "partition": sql.Identifier(SCHEMA, name),
        }
        if attached:
            detach = sql.SQL("ALTER TABLE {parent} DETACH PARTITION {partition} ").format(**words)
            _detach(connection, detach, pending)
        drop: LiteralString = "DROP TABLE {partition}"
        if table.before_drop is not None:
            drop = table.before_drop + ";" + drop
        _persist(connection, sql.SQL(drop).format(**words), in_transaction=True)
        logger.info("partition %s dropped", name)


def _detach(connection: psycopg.Connection[Any], detach: sql.Composed, pending: bool) -> None:
    """Detach a day, or finish a detach that was interrupted: by a killed run, or our own try."""
    if not pending:
        try:
            _persist(connection, detach + sql.SQL("CONCURRENTLY"))
        except psycopg.errors.ObjectNotInPrerequisiteState:
            # A try gave up between its two halves, waiting for a reader: it is pending now.
            logger.debug("a detach waits for readers")
        else:
            return
    _persist(connection, detach + sql.SQL("FINALIZE"))


def _is_settled(connection: psycopg.Connection[Any], table: Partitioned, name: str) -> bool:
    """Whether a day has nothing to be stored any more, nor to be rolled up."""
    unsettled = _UNSETTLED.get(table.table)
    if unsettled is None:
        return True
    query = sql.SQL("SELECT NOT EXISTS (" + unsettled + ")")
    day = table.day(name)
    words = {
        "partition": sql.Identifier(SCHEMA, name),
        "start": sql.Literal(f"{day} 00:00+00"),
        "end": sql.Literal(f"{day + timedelta(days=1)} 00:00+00"),
    }
    row = connection.execute(query.format(**words)).fetchone()
    return row is not None and bool(row[0])


_DIRTY: LiteralString = """
    SELECT FROM aggregation_dirtymark WHERE kind = '{kind}' AND level <= {level}
        AND bucket >= {{start}} AND bucket < {{end}}
"""
# Persons whose hours are still to be marked.
_PERSONS: LiteralString = """
    UNION ALL SELECT FROM aggregation_dirtyperson AS person WHERE EXISTS (
        SELECT FROM {partition} AS raw
        WHERE raw.project_id = person.project_id AND raw.subject = person.subject
    )
"""
# What still has to be done with a day before it may go.
_UNSETTLED: dict[str, LiteralString] = {
    LEDGER.table: "SELECT FROM {partition} WHERE state = 'received'",
    EVENTS.table: _DIRTY.format(kind="events", level="0") + _PERSONS,
    POINTS.table: _DIRTY.format(kind="points", level="0") + _PERSONS,
    EVENT_HOURS.table: _DIRTY.format(kind="events", level="1"),
    METRIC_HOURS.table: _DIRTY.format(kind="points", level="1"),
}


def _days(connection: psycopg.Connection[Any], table: Partitioned) -> list[tuple[str, bool, bool]]:
    """The days of a table there are: name, whether attached, whether a detach was interrupted."""
    return connection.execute(
        """
        SELECT c.relname, i.inhrelid IS NOT NULL, coalesce(i.inhdetachpending, false)
        FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
        WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r'
            AND c.relname ~ ('^' || %s || '_[0-9]{8}$')
        ORDER BY c.relname
        """,
        [SCHEMA, table.table],
    ).fetchall()


def _persist(
    connection: psycopg.Connection[Any], statement: sql.Composed, *, in_transaction: bool = False
) -> None:
    """Run DDL, again and again while somebody holds a lock it needs."""
    for attempt in range(_TRIES):
        try:
            if in_transaction:
                with connection.transaction():
                    connection.execute(statement)
            else:
                connection.execute(statement)
        except psycopg.errors.LockNotAvailable:
            if attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
