"""Telling the rollups what has changed, in the transaction that changes it.

Marks are only ever appended: one that is there already may be on its way out with a rollup that
doesn't see what is changed now, and waiting for it would let storers wait for each other.
"""

from collections.abc import Collection

from ingest.prepared import execute

EVENTS, POINTS = "events", "points"


def append(kind: str, hours: Collection[tuple[int, int]]) -> None:
    """Mark hours of which something was stored, by project and number since 1970."""
    execute(
        """
        INSERT INTO aggregation_dirtymark (project_id, kind, level, bucket, erasing, marked_at)
        SELECT project, %s, 0, to_timestamp(hour * 3600), false, now()
        FROM unnest(%s::int4[], %s::int8[]) AS marked (project, hour)
        """,
        [kind, [project for project, _ in hours], [hour for _, hour in hours]],
    )


def append_person(project_id: int, subject: bytes) -> None:
    """Mark whatever there is of a person: they don't count from now on, or do again."""
    execute(
        """
        INSERT INTO aggregation_dirtyperson (project_id, subject, marked_at)
        VALUES (%s, %s, now())
        """,
        [project_id, subject],
    )
