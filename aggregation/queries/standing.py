"""What the numbers of a project are worth now."""

from aggregation import marks
from aggregation.models import Kind, Level, Mode, Policy
from aggregation.queries.answers import Reach, Standing
from aggregation.queries.parameters import refuse


def of(using: str, project_id: int, kind: Kind, level: Level) -> Standing:
    """To be asked before the numbers are read, of the same database: what comes between is in them,
    or isn't.

    Raises ValidationError in private mode: whoever needs this reads what isn't released there.
    """
    return under(Policy.of(project_id, using), using, kind, level)


def under(policy: Policy, using: str, kind: Kind, level: Level) -> Standing:
    """The same under a policy that was read. Raises ValidationError."""
    if policy.mode == Mode.PRIVATE:
        refuse(
            "project",
            "is in private mode, in which only counts of events by whole days are released: "
            "measurements, and whatever else there is, aren't",
            "private_mode",
        )
    reach = exempt(using, policy.pk, kind, level)
    return Standing(reach.complete_until, reach.clean_until, policy.threshold)


def exempt(using: str, project_id: int, kind: Kind, level: Level) -> Reach:
    """How far it goes what carries no person, and is told in either mode."""
    return Reach(
        marks.complete_until(project_id, kind, level, using),
        marks.clean_until(project_id, kind, level, using),
    )
