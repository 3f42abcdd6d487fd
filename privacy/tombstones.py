"""Lists of who is erased, to be kept beside backups: a restored one knows nothing of it.

The first line says when the list was made; of the others each holds a project's number and a
person's pseudonym, and where the erasure was still to come also when. It is of use only with the
same pepper, and needs no other protection than a backup.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef
from django.utils import timezone

from ingest.models import Project
from privacy import deletions
from privacy.models import DeletionRequest, PersonRestriction

ACTOR = "replay"
_CHUNK = 2_000
_HEAD = "#"
_FIRST = "when it was made, as in # 2026-11-21T15:00:00Z"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Somebody who is erased; or is going to be, when `due_at` has come."""

    project_id: int
    subject: bytes
    due_at: datetime | None = None

    def __str__(self) -> str:
        words = [str(self.project_id), self.subject.hex()]
        return " ".join(words + ([self.due_at.isoformat()] if self.due_at else []))

    @classmethod
    def parse(cls, line: str) -> "Tombstone":
        """From what `str` says; raises ValueError."""
        project, subject, *due_at = line.split()
        if len(subject) != 32 or len(due_at) > 1:
            raise ValueError(line)
        return cls(int(project), bytes.fromhex(subject), *map(_moment, due_at))


class BrokenList(Exception):
    """What can't be read as lists; says which line, and why."""


def export() -> Iterator[str]:
    """A list's lines: everybody who is going to be erased, then everybody who is, in short reads.

    In this order: who is erased meanwhile is in both parts, and nobody in neither.
    """
    yield f"{_HEAD} {timezone.now().isoformat()}"
    yield from map(str, _asked_for())
    yield from map(str, _erased())


def read(lines: Iterable[str]) -> list[Tombstone]:
    """Whom lists one after the other name together, each person once. Raises BrokenList."""
    lists: dict[datetime, list[Tombstone]] = {}
    current: list[Tombstone] | None = None
    for number, line in enumerate(lines, 1):
        try:
            if line.startswith(_HEAD):
                current = lists.setdefault(_moment(line.removeprefix(_HEAD).strip()), [])
            elif line.strip():
                stone = Tombstone.parse(line)
                if current is None:
                    raise BrokenList(f"Line {number} is before any list's first line: {_FIRST}")
                current.append(stone)
        except ValueError:
            raise BrokenList(f"Line {number} is no tombstone, nor a list's first line") from None
    return _together(lists)


def _together(lists: dict[datetime, list[Tombstone]]) -> list[Tombstone]:
    """Whom any of these lists calls erased, or the newest one going to be; they are by their times.

    By an older one somebody was going to be who may have cancelled since.
    """
    newest = max(lists, default=None)
    named = [
        stone
        for made, stones in lists.items()
        for stone in stones
        if stone.due_at is None or made == newest
    ]
    # Of two that name the same person the one that waits for nothing holds.
    named.sort(key=lambda stone: stone.due_at is None)
    return list({(stone.project_id, stone.subject): stone for stone in named}.values())


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


def _asked_for() -> Iterator[Tombstone]:
    """Those too who let something be stored since they asked: that ends with the erasure."""
    wishes = DeletionRequest.objects.open().order_by("pk")
    chunk = list(wishes[:_CHUNK])
    while chunk:
        for wish in chunk:
            if wish.subject is not None:
                yield Tombstone(wish.project_id, bytes(wish.subject), wish.due_at)
        chunk = list(wishes.filter(pk__gt=chunk[-1].pk)[:_CHUNK])


def _erased() -> Iterator[Tombstone]:
    """Whoever is suppressed by more than a request that is still to be run."""
    # Index: deletion_one_at_a_time.
    first_wish = DeletionRequest.objects.open().filter(
        project=OuterRef("project"), subject=OuterRef("subject"), was_suppressed=False
    )
    held = PersonRestriction.objects.filter(~Exists(first_wish), suppressed=True).order_by("pk")
    last = 0
    while chunk := list(held.filter(pk__gt=last)[:_CHUNK]):
        for one in chunk:
            yield Tombstone(one.project_id, bytes(one.subject))
        last = chunk[-1].pk


def replay(tombstone: Tombstone) -> bool:
    """Ask for a person's erasure again; False where there is no such project.

    From now on nothing of theirs is stored; a worker erases what is there once it runs.
    """
    if not Project.objects.filter(pk=tombstone.project_id).exists():
        return False
    grace = timedelta()
    if tombstone.due_at is not None:
        grace = max(grace, tombstone.due_at - timezone.now())
    deletions.enter(tombstone.project_id, tombstone.subject, ACTOR, grace)
    return True
