"""Where something that was sent may have left a trace: every table, the log, the payloads."""

from typing import Any

from django.db import connection

from ingest.models import Batch
from ingest.models import Project as Row
from ingest.payloads import UNREADABLE, unpack
from tests.harness import Project, Service

_TABLES = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition
        AND relnamespace IN ('public'::regnamespace, 'partitions'::regnamespace)
"""


def project_id(project: Project) -> int:
    return int(Row.objects.get(slug=project.project).pk)


def ledger(project: Project) -> list[Batch]:
    """The project's rows of the ledger, in the order they came."""
    return list(Batch.objects.filter(project__slug=project.project).order_by("id"))


def traces(service: Service, text: str) -> list[str]:
    """The tables, log lines and waiting payloads that show `text`."""
    found = [table for table in _tables() if _count(table, text)]
    found += [line for line in service.lines if text in line]
    for batch in Batch.objects.filter(payload__isnull=False):
        if text in repr(_records(batch)):
            found.append(f"payload of {batch.batch_id}")
    return found


def _records(batch: Batch) -> list[Any]:
    try:
        return list(unpack(bytes(batch.payload or b"")))
    except UNREADABLE:
        return []


def _tables() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
        tables = [name for (name,) in cursor.fetchall()]
    assert {"ingest_batch", "ingest_event", "ingest_rejectedevent"} <= set(tables)
    # The one table that the application may not read.
    return [table for table in tables if table != "django_migrations"]


def _count(table: str, text: str) -> int:
    with connection.cursor() as cursor:
        # As text, and as the hexadecimal digits that bytes are written as.
        cursor.execute(
            f"SELECT count(*) FROM {table} t"
            " WHERE strpos(t::text, %s) > 0 OR strpos(t::text, %s) > 0",
            [text, text.encode().hex()],
        )
        return int(cursor.fetchone()[0])
