"""The audit log: append-only and chained by keyed hashes. The only writer of its entries.

Each entry's digest covers the entry and the digest before it, under a key that isn't in the
database: whoever can write to the database can neither change nor drop one, nor put one in, without
`verify` seeing it. Only the end could be cut off: compare the head with one that was written down
elsewhere.
"""

import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from privacy.models import AuditEntry

# One writer at a time: the next entry needs the digest of the last. Held until the commit.
_LOCK = 0x61756469  # "audi"
_CHUNK = 2000
_FIRST = bytes(32)

# What is written down, in words.
ACTIONS = {
    "access.refused": "a token was used on another person",
    "consent.changed": "consent changed",
    "dead.discard": "dead batches discarded",
    "dead.discard_all": "all matching dead batches discarded",
    "dead.replay": "dead batches replayed",
    "dead.replay_all": "all matching dead batches replayed",
    "deletion.asked": "erasure asked for",
    "deletion.asked_again": "erasure asked for again",
    "deletion.brought_forward": "erasure brought forward",
    "deletion.cancelled": "erasure cancelled",
    "deletion.completed": "erasure completed",
    "deletion.failed": "erasure failed",
    "deletion.started": "erasure begun",
    "delivery.replay": "deliveries replayed",
    "delivery.replay_all": "all matching deliveries replayed",
    "epsilon.raised": "epsilon of private mode raised",
    "events.looked_at": "recent events looked at",
    "export.answered": "copy handed over in the answer",
    "export.asked": "copy asked for",
    "export.asked_again": "copy asked for again",
    "export.downloaded": "copy downloaded",
    "export.failed": "copy failed",
    "export.made": "copy made",
    "key.made": "key made",
    "key.revoked": "key revoked",
    "key.rotated": "key rotated",
    "mode.changed": "mode of a project changed",
    "payload.looked_at": "payload looked at",
    "person.looked_up": "person looked up",
    "project.changed": "project changed",
    "project.made": "project made",
    "retention.changed": "retention changed",
    "rules.changed": "privacy rules changed",
    "signing.rotated": "signing secret rotated",
    "threshold.lowered": "threshold lowered",
    "token.issued": "subject token issued",
}


@dataclass(frozen=True, slots=True)
class Head:
    """The chain's end: how many entries, and the digest of the last, which covers all of them."""

    entries: int
    digest: bytes

    def __str__(self) -> str:
        return f"{self.entries}:{self.digest.hex()}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """From what `str` says; raises ValueError."""
        entries, _, digest = text.strip().partition(":")
        found = cls(int(entries), bytes.fromhex(digest))
        if found.entries < 0 or len(found.digest) != len(_FIRST):
            raise ValueError(text)
        return found


class BrokenChain(Exception):
    """An entry that isn't what was written, or isn't there; `number` is the first such."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"entry {number} {what}")
        self.number = number


def record(
    action: str,
    actor: str,
    *,
    project_id: int | None = None,
    of: str = "",
    **details: str | int | bool | list[str],
) -> None:
    """Write down what was done by whom, in the transaction that does it, as its last statement.

    `of` is the random id of a request, a batch or the like; nothing here may lead to a person.
    """
    assert action in ACTIONS, action
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        head = current_head()
        entry = AuditEntry(
            number=head.entries + 1,
            at=timezone.now(),
            action=action,
            actor=actor,
            project_id=project_id,
            object=of,
            details=details,
        )
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO privacy_auditentry
                    (number, at, action, actor, project_id, object, details, digest)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
                """,
                [
                    entry.number,
                    entry.at,
                    action,
                    actor,
                    project_id,
                    of,
                    json.dumps(details),
                    _digest(head.digest, entry),
                ],
            )


def current_head() -> Head:
    """The chain's end now."""
    last = AuditEntry.objects.order_by("-number").values_list("number", "digest").first()
    return Head(last[0], bytes(last[1])) if last else Head(0, _FIRST)


def verify(earlier: Head | None = None) -> Head:
    """Read the chain from its beginning; its end.

    Raises BrokenChain at the first entry that isn't what was written, and where the chain doesn't
    have an `earlier` head in it any more.
    """
    digest, number = _FIRST, 0
    for entry in _entries():
        number += 1
        if entry.number < number:
            raise BrokenChain(entry.number, "was put in: the first is number 1")
        if entry.number != number:
            raise BrokenChain(number, "is missing")
        digest = _digest(digest, entry)
        if not hmac.compare_digest(digest, bytes(entry.digest)):
            raise BrokenChain(number, "is not what was written")
        if earlier and number == earlier.entries and digest != earlier.digest:
            raise BrokenChain(number, "is not what it was when the head was written down")
    if earlier and number < earlier.entries:
        raise BrokenChain(number + 1, "and what followed is missing")
    return Head(number, digest)


def _entries() -> Iterator[AuditEntry]:
    """All entries in their order, from the smallest number there is, in short reads."""
    rows = AuditEntry.objects.order_by("number")
    chunk = list(rows[:_CHUNK])
    while chunk:
        yield from chunk
        chunk = list(rows.filter(number__gt=chunk[-1].number)[:_CHUNK])


def _digest(before: bytes, entry: AuditEntry) -> bytes:
    content = msgspec.json.encode(
        [
            entry.number,
            _text(entry.at),
            entry.action,
            entry.actor,
            entry.project_id,
            entry.object,
            entry.details,
        ],
        order="sorted",
    )
    return hmac.digest(_key(), before + content, "sha256")


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _key() -> Any:
    return hmac.digest(settings.PEPPER, b"audit", "sha256")
