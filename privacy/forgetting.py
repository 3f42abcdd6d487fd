"""Erasing one person from what is kept about persons beside their records."""

from collections.abc import Iterator
from datetime import datetime

from django.core.files.storage import storages
from django.db import transaction
from django.db.models import QuerySet

from ingest.erasing import Note, Person
from privacy.models import ConsentChange, DeletionRequest, ExportRequest, PersonRestriction


def erase_exports(person: Person, note: Note) -> Iterator[None]:
    """Delete a person's exports, and their files first: no file is ever without its row.

    One that is being made just now is not published: its row is gone.
    """
    for export in _exports(person):
        if export.file:
            storages["exports"].delete(export.file)
        with transaction.atomic():
            deleted, _ = ExportRequest.objects.filter(pk=export.pk).delete()
            note(ExportRequest._meta.db_table, deleted)
        yield


def erase_consent(person: Person, note: Note) -> Iterator[None]:
    """Delete what a person has answered about their consent, and when."""
    with transaction.atomic():
        deleted, _ = _consent(person).delete()
        note(ConsentChange._meta.db_table, deleted)
    yield


def forget_requests(person: Person, note: Note) -> Iterator[None]:
    """Forget of which person settled requests for erasure were; the rows and dates stay."""
    with transaction.atomic():
        note(DeletionRequest._meta.db_table, _settled(person).update(subject=None))
    yield


def count_exports(person: Person, _: datetime) -> int:
    """How many exports of a person there are."""
    return _exports(person).count()


def count_consent(person: Person, _: datetime) -> int:
    """How many of a person's answers are kept."""
    return _consent(person).count()


def count_requests(person: Person, _: datetime) -> int:
    """How many settled requests lead to a person."""
    return _settled(person).count()


def count_more_than_a_tombstone(person: Person, _: datetime) -> int:
    """Whether more is kept of a person's restrictions than that nothing is stored."""
    held = PersonRestriction.objects.filter(project_id=person.project_id, subject=person.subject)
    return held.exclude(suppressed=True, refused=[], opted_in_at=None).count()


def _exports(person: Person) -> QuerySet[ExportRequest]:
    return ExportRequest.objects.filter(project_id=person.project_id, subject=person.subject)


def _consent(person: Person) -> QuerySet[ConsentChange]:
    return ConsentChange.objects.filter(project_id=person.project_id, subject=person.subject)


def _settled(person: Person) -> QuerySet[DeletionRequest]:
    theirs = DeletionRequest.objects.filter(project_id=person.project_id, subject=person.subject)
    return theirs.exclude(state__in=DeletionRequest.OPEN)
