"""The latest snapshot of each node.

Exempt: a machine's measurements, no person in them. What somebody is named in isn't looked at.
"""

from datetime import datetime
from typing import LiteralString

from django.utils import timezone
from psycopg import sql

from aggregation.definitions import TABLES, starting
from aggregation.models import Kind, Level
from aggregation.queries import reading, standing
from aggregation.queries.answers import Nodes
from aggregation.queries.spans import HOUR
from telemetry_site.replica import reader

# The gauges that a snapshot becomes (`ingest.formats.snapshot`).
_PREFIX = "node."
# Each level has the latest of its buckets, and lags behind the one before.
_LOOKED_AT = {Level.HOUR: 6 * HOUR, Level.DAY: 48 * HOUR, Level.MONTH: 31 * 24 * HOUR}


def latest(project_id: int) -> Nodes:
    """Answer with the latest snapshot of each node, by its id."""
    now = timezone.now()
    using = reader()
    reach = standing.exempt(using, project_id, Kind.POINTS, Level.HOUR)
    since = {f"since{level}": starting(level, now - _LOOKED_AT[level]) for level in Level}
    given = {"project": project_id, "prefix": _PREFIX, **since}
    nodes: dict[str, tuple[str, datetime, dict[str, float]]] = {}
    # The latest come first.
    for node, moment, name, value in reading.rows(using, _statement(), given):
        _, of_node, fields = nodes.setdefault(node, (node, moment, {}))
        if moment == of_node:
            fields[name.removeprefix(_PREFIX)] = value
    return Nodes(reach, [nodes[node] for node in sorted(nodes)])


# Of a bucket that has somebody's measurements nothing is told, nor of what sealing left of it.
_OF_LEVEL: LiteralString = """
    SELECT node, name, last_at, last FROM {table}
    WHERE project_id = %(project)s AND name ^@ %(prefix)s AND bucket >= {since}
        AND kind = 'gauge' AND people = 0 AND node IS NOT NULL AND last IS NOT NULL
"""
_LATEST: LiteralString = """
    SELECT DISTINCT ON (last_at, node, name) node, last_at, name, last FROM ({}) AS bucket
    ORDER BY last_at DESC, node, name
"""


def _statement() -> sql.Composed:
    levels = [
        sql.SQL(_OF_LEVEL).format(
            table=sql.Identifier(TABLES[Kind.POINTS, level]._meta.db_table),
            since=sql.Placeholder(f"since{level}"),
        )
        for level in Level
    ]
    return sql.SQL(_LATEST).format(sql.SQL(" UNION ALL ").join(levels))
