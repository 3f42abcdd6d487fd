"""Reading an hour of raw data slice by slice, each in short statements."""

from typing import Any, LiteralString

from django.db import transaction
from psycopg import sql

from ingest import prepared


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
