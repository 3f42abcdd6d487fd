"""What the numbers of a project are worth now."""

from aggregation import marks
from aggregation.models import Kind, Level, Policy
from aggregation.queries.answers import Standing


def of(using: str, project_id: int, kind: Kind, level: Level) -> Standing:
    """To be asked before the numbers are read, of the same database: what comes between is in them,
    or isn't."""
    policies = Policy.objects.using(using).filter(pk=project_id)
    threshold = policies.values_list("threshold", flat=True).first()
    return Standing(
        marks.complete_until(project_id, kind, level, using),
        marks.clean_until(project_id, kind, level, using),
        Policy._meta.get_field("threshold").default if threshold is None else threshold,
    )
