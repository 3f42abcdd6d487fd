"""Events as they lie in the table, and what is counted of them, for all to see."""

from datetime import timedelta
from typing import Any

from aggregation.models import EventHour
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
