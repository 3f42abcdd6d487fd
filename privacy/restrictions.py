"""What persons let be stored: consent by category, and the stop that an erasure begins with.

Storing reads these rows (`ingest.restrictions`); this module is their only writer.
"""

from collections.abc import Mapping, Set

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone
from psycopg.errors import LockNotAvailable

from ingest import marks, restrictions
from ingest.records import CATEGORIES
from privacy.models import ConsentChange, DeletionRequest, PersonRestriction


def of(project_id: int, subject: bytes) -> PersonRestriction:
    """What holds for a person now; a row that isn't saved where nothing does."""
    found = PersonRestriction.objects.filter(project_id=project_id, subject=subject).first()
    return found or PersonRestriction(project_id=project_id, subject=subject)


def consent(project_id: int, subject: bytes, answers: Mapping[str, bool]) -> PersonRestriction:
    """Keep a person's answers by category, in the caller's transaction; what holds then.

    Whoever was suppressed and grants something opts in again, to that alone.
    """
    held = hold(project_id, subject)
    opts_in = held.suppressed and any(answers.values())
    refused = set(CATEGORIES) if opts_in else set(held.refused)
    refused -= {name for name, granted in answers.items() if granted}
    refused |= {name for name, granted in answers.items() if not granted}
    now = timezone.now()
    if opts_in:
        held.suppressed, held.opted_in_at = False, now
    held.refused = sorted(refused)
    held.save()
    if opts_in:
        marks.append_person(project_id, subject)
    ConsentChange.objects.bulk_create(
        ConsentChange(
            project_id=project_id, subject=subject, category=name, granted=granted, changed_at=now
        )
        for name, granted in sorted(answers.items())
    )
    return held


def suppress(project_id: int, subject: bytes) -> bool:
    """Let nothing more of a person be stored, in the caller's transaction; whether it was so."""
    held = hold(project_id, subject)
    was, held.suppressed = held.suppressed, True
    held.save()
    if not was:
        marks.append_person(project_id, subject)
    return was


def unsuppress(project_id: int, subject: bytes) -> None:
    """Let be stored again what the person hasn't refused, in the caller's transaction."""
    held = hold(project_id, subject)
    held.suppressed = False
    held.save()
    marks.append_person(project_id, subject)


def bury(project_id: int, subject: bytes) -> None:
    """Keep of a person's restrictions the tombstone alone, in the caller's transaction."""
    held = hold(project_id, subject)
    held.suppressed, held.refused, held.opted_in_at = True, [], None
    held.save()


def erased(project_id: int, subjects: Set[bytes]) -> Set[bytes]:
    """Of these persons those of whom nothing but the tombstone is left."""
    of_these = Q(project_id=project_id, subject__in=subjects)
    asking = DeletionRequest.objects.open().filter(of_these).values("subject")
    gone = PersonRestriction.objects.filter(of_these, suppressed=True).exclude(subject__in=asking)
    return {bytes(subject) for subject in gone.values_list("subject", flat=True)}


def await_storing(project_id: int) -> None:
    """Return once all that is stored from now on knows what was committed before."""
    with transaction.atomic():
        restrictions.await_storing(project_id)


def await_storing_for(project_id: int, seconds: int) -> bool:
    """The same for so many seconds at most; whether it was reached.

    What is stored from now on knows it in any case: only what is being stored just now may not.
    """
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{seconds}s"])
            restrictions.await_storing(project_id)
    except LockNotAvailable:
        return False
    return True


def hold(project_id: int, subject: bytes) -> PersonRestriction:
    """The person's row, locked until the transaction ends; made where there was none.

    Whoever changes anything about a person takes this lock first.
    """
    PersonRestriction.objects.bulk_create(
        [PersonRestriction(project_id=project_id, subject=subject)], ignore_conflicts=True
    )
    return PersonRestriction.objects.select_for_update().get(project_id=project_id, subject=subject)
