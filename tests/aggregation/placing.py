"""Events as they lie in the table, and what is counted of them, for all to see."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

from django.core.management import call_command
from django.db import connection, transaction

from aggregation.models import DirtyMark, EventHour
from ingest import marks, partitions
from ingest.records import StoredRecord
from tests.aggregation.rolling import hour
from tests.harness import Project
from tests.ingest.traces import project_id

DAY = timedelta(days=1)


def sums(project: Project, table: Any = EventHour) -> dict[tuple[str, str], tuple[int, int]]:
    """Count and people by dimension and value, over all buckets."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for row in table.objects.filter(project_id=project_id(project)):
        count, people = found.get((row.dimension, row.value), (0, 0))
        found[row.dimension, row.value] = (count + row.count, people + row.people)
    return found


def put(project: Project, *events: StoredRecord) -> None:
    """Events as they lie in the table, of whatever age: storing would refuse the oldest."""
    pk = project_id(project)
    for one in events:
        moment = datetime.fromtimestamp(one.occurred / 1e6, UTC)
        partitions.ensure(partitions.EVENTS, moment.date())
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO ingest_event (project_id, occurred_at, batch_id, position, subject,
                    session, name, category, level, properties)
                VALUES (%s, %s, %s, 0, %s, %s, %s, 'application', %s, '{}')
                """,
                [pk, moment, uuid4(), one.subject, one.session, one.name, one.level],
            )
            marks.append(marks.EVENTS, {(pk, one.occurred // 3_600_000_000)})


def long_ago(days: int) -> datetime:
    """Noon, so many days before today."""
    return hour(0).replace(hour=12) - days * DAY


def rolled_up(project: Project) -> None:
    """Make what is dirty; the service's worker may do some of it."""
    call_command("rollup", "--project", project.project, stdout=StringIO())
    assert not DirtyMark.objects.filter(project_id=project_id(project)).exists()
