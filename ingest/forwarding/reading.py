"""The rows that deliveries are of: found by their primary key, those of who is erased left out."""

import struct
from collections import defaultdict
from collections.abc import Callable
from typing import LiteralString, TypeVar

from django.db import connection
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from ingest import prepared, restrictions
from ingest.forwarding.deliveries import Claim, Signal
from ingest.forwarding.rendering.rows import EventRow, PointRow
from ingest.moments import POSTGRES_EPOCH

# Of a batch's rows those that occurred when; the bounds let PostgreSQL look into few days. Index:
# the primary key.
_ROWS: LiteralString = """
    SELECT delivery.project_id, {columns}
    FROM ingest_delivery AS delivery JOIN {table} AS stored
        ON stored.project_id = delivery.project_id AND stored.batch_id = delivery.batch_id
        AND stored.occurred_at = ANY(delivery.moments)
        AND stored.occurred_at BETWEEN delivery.moments[1]
            AND delivery.moments[cardinality(delivery.moments)]
        AND (delivery.places IS NULL OR {place} = ANY(delivery.places))
    WHERE delivery.day = ANY(%s) AND delivery.id = ANY(%s)
"""
_EVENTS = _ROWS.format(
    columns="stored.occurred_at, delivery.received_at, stored.name, stored.subject,"
    " stored.session, stored.category, stored.level, stored.scope, stored.client_version,"
    " stored.message, stored.properties",
    table="ingest_event",
    place="stored.position * 65536",
)
_POINTS = _ROWS.format(
    columns="stored.occurred_at, stored.name, stored.kind, stored.subject, stored.node,"
    " stored.tags, stored.cumulative, stored.value, stored.samples, stored.weights, stored.count,"
    " stored.sum, stored.min, stored.max, stored.started_at",
    table="ingest_metricpoint",
    place="stored.position * 65536 + stored.part",
)


_Row = TypeVar("_Row", EventRow, PointRow)


# By project.
Found = dict[int, list[EventRow]] | dict[int, list[PointRow]]


def read(claimed: Claim, signal: str) -> Found:
    """What may be sent of a claim, by project."""
    if signal == Signal.LOGS:
        return _read(_EVENTS, EventRow, claimed)
    return _read(_POINTS, PointRow, claimed)


def _read(query: LiteralString, kind: Callable[..., _Row], claimed: Claim) -> dict[int, list[_Row]]:
    connection.ensure_connection()
    cursor = prepared.cursor()
    for name, loader in (("timestamptz", _Microseconds), ("jsonb", _JsonText)):
        cursor.adapters.register_loader(name, loader)
    cursor.execute(query, [claimed.days, claimed.ids], prepare=True, binary=True)
    found: dict[int, list[_Row]] = defaultdict(list)
    for row in cursor.fetchall():
        found[row[0]].append(kind(*row[1:]))
    return {project: restrictions.shown(project, rows) for project, rows in found.items()}


class _Microseconds(Loader):
    """A timestamptz as microseconds since 1970."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        (moment,) = _MOMENT.unpack(data)
        return int(moment) + POSTGRES_EPOCH


class _JsonText(Loader):
    """A jsonb as its text: whoever renders it decodes it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)[1:]  # behind the version


_MOMENT = struct.Struct("!q")
