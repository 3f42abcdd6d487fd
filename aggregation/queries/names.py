"""Which metrics there are to ask for, and by what they can be grouped.

A name or a tag is told where it is a machine's, or that of as many people as a number takes.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from django.utils import timezone
from psycopg import sql

from aggregation import dimensions
from aggregation.definitions import OTHER, TABLES
from aggregation.models import Kind, Level
from aggregation.queries import reading, standing
from aggregation.queries.spans import Span, whole
from telemetry_site.replica import reader

MOST_NAMES = 1000
# Months lag behind days, and these behind hours.
_LOOKED_AT = {Level.HOUR: timedelta(hours=6), Level.DAY: timedelta(days=2)}


@dataclass(frozen=True)
class Names:
    """Names of a project's measurements, of the months of a span or of just now."""

    using: str
    project_id: int
    span: Span
    threshold: int

    @classmethod
    def of(cls, project_id: int, span: Span) -> "Names":
        """Raises ValidationError where none are told."""
        using = reader()
        threshold = standing.of(using, project_id, Kind.POINTS, Level.HOUR).threshold
        return cls(using, project_id, span, threshold)

    def metrics(self) -> dict[str, list[str]]:
        """Name -> kinds."""
        return dict(self._rows(_METRICS, most=MOST_NAMES))

    def groupings(self, name: str) -> list[str]:
        """By what the series of a metric can be grouped: their tags, and `node` where they have
        one."""
        tags = {tag for (tag,) in self._rows(_GROUPINGS, name=name)} - {OTHER}
        return sorted(tag for tag in tags if not dimensions.telling(tag))

    def _rows(self, statement: LiteralString, **given: Any) -> list[tuple[Any, ...]]:
        parameters = {"project": self.project_id, "threshold": self.threshold, **given}
        parts = []
        for level, (start, end) in _ranges(self.span).items():
            parameters |= {f"start{level}": start, f"end{level}": end}
            parts.append(
                sql.SQL(_OF_LEVEL).format(
                    table=sql.Identifier(TABLES[Kind.POINTS, level]._meta.db_table),
                    start=sql.Placeholder(f"start{level}"),
                    end=sql.Placeholder(f"end{level}"),
                )
            )
        series = sql.SQL(" UNION ALL ").join(parts)
        return reading.rows(self.using, sql.SQL(statement).format(series=series), parameters)


def _ranges(span: Span) -> dict[Level, tuple[datetime, datetime]]:
    now = timezone.now()
    recent = {level: (now - back, now) for level, back in _LOOKED_AT.items()}
    return {**recent, Level.MONTH: whole(Level.MONTH, span.start, span.end)}


_OF_LEVEL: LiteralString = """
    SELECT name, kind, node, tags FROM {table}
    WHERE project_id = %(project)s AND bucket >= {start} AND bucket < {end}
        AND (people = 0 OR people >= %(threshold)s)
"""
_METRICS: LiteralString = """
    SELECT name, array_agg(DISTINCT kind ORDER BY kind) FROM ({series}) AS series
    GROUP BY name ORDER BY name LIMIT %(most)s
"""
_GROUPINGS: LiteralString = """
    SELECT DISTINCT grouping FROM ({series}) AS series
    CROSS JOIN LATERAL (
        SELECT jsonb_object_keys(tags) AS grouping
        UNION ALL SELECT 'node' WHERE node IS NOT NULL
    ) AS groupings
    WHERE name = %(name)s
"""
