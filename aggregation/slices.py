"""Reading an hour of raw data slice by slice, each in short statements."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, LiteralString

from django.db import transaction
from psycopg import sql

from aggregation.definitions import Bucket
from ingest import prepared


def cut(bucket: Bucket, statement: LiteralString, most: int) -> Iterator[tuple[datetime, datetime]]:
    """The hour, cut into times of so much; what shares one moment can't be cut.

    The statement finds the first moment after %(start)s that is behind %(most)s, if there is one.
    """
    start = bucket.start
    while start < bucket.end:
        given = {"project": bucket.project_id, "start": start, "end": bucket.end}
        found = read(statement, given | {"most": most})
        end = found[0][0] if found else bucket.end
        yield start, end
        start = end


def read(statement: LiteralString | sql.Composed, given: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What a statement makes of a slice; in binary, where bytes come as they are."""
    with transaction.atomic():
        prepared.execute(_PLAN)
        return prepared.cursor().execute(statement, given, binary=True).fetchall()


# By the key and not through the whole day, in one process, and by hashing, for which a slice needs
# some 30 MB: a third of the CPU that PostgreSQL's own choice takes.
_PLAN: LiteralString = """
    SELECT set_config('enable_seqscan', 'off', true), set_config('work_mem', '64MB', true),
        set_config('max_parallel_workers_per_gather', '0', true)
"""
# What of a table, called raw, is counted of a slice: nothing of who is suppressed, whether they are
# erased already or not.
COUNTED = sql.SQL("""
    project_id = %(project)s AND occurred_at >= %(start)s AND occurred_at < %(end)s
        AND NOT EXISTS (
            SELECT FROM privacy_personrestriction AS restriction
            WHERE restriction.project_id = %(project)s AND restriction.suppressed
                AND restriction.subject = raw.subject
        )
""")
