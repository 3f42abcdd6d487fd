"""Accepting a batch: from decoded records to a committed ledger row.

The only writer of the ledger's rows. When `accept` returns, the batch is durable: its row, with the
pseudonymised records as payload, and the claim on its id are committed in one statement.
"""

import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, LiteralString

import msgspec
import psycopg
from django.conf import settings
from django.db import connection
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int4

from ingest import partitions, prepared
from ingest.formats.items import name_without
from ingest.models import Batch, Grant
from ingest.nudges import nudger
from ingest.payloads import pack
from ingest.records import (
    REFUSALS_KEPT,
    DecodedBatch,
    Point,
    Record,
    Rejection,
    StoredPoint,
    StoredRecord,
    microseconds,
)
from privacy.rules import Rules
from privacy.scrubbing import Mode, scrub, scrub_text
from privacy.subjects import Pseudonyms
from telemetry_site import logs
from telemetry_site.monitoring import instruments

# A clock that runs ahead of ours by more than this is corrected.
CLOCK_TOLERANCE = timedelta(minutes=5)
CLAIM_WINDOW = timedelta(days=31)
# For so long a batch that is sent again under another id is recognised by its content.
DIGEST_WINDOW = timedelta(hours=1)

_DISK_SECONDS = 5.0
_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Arrival:
    """What is known of a request beside its body's content."""

    grant: Grant
    format: str
    request_id: str
    received_at: datetime
    # Whom the headers name.
    user_id: str | None = None
    started: float = field(default_factory=time.perf_counter)
    wire_bytes: int = 0
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch at intake."""

    batch_id: uuid.UUID
    accepted: int
    rejections: list[Rejection]
    duplicate: bool


class DiskFull(Exception):
    """The data folder's disk has less free space than TELEMETRY_MIN_FREE_DISK_MB asks for."""


class AllRejected(Exception):
    """No event of the batch can be taken; `rejections` say why."""

    def __init__(self, rejections: list[Rejection]) -> None:
        super().__init__(len(rejections))
        self.rejections = rejections


def accept(decoded: DecodedBatch, arrival: Arrival) -> Receipt:
    """Make a batch durable and tell the workers.

    Raises AllRejected where nothing in it can be taken, and DiskFull or an error of psycopg where
    nothing was accepted and the client should come again.
    """
    _check_disk()
    pseudonyms = Pseudonyms(settings.PEPPER, arrival.grant.project_id)
    # Of what was sent: two batches that differ may be alike once they are scrubbed.
    digest = _digest(decoded, pseudonyms)
    clean(decoded.records, arrival.grant.scrubbing, arrival.grant.rules, pseudonyms)
    stored, too_old = _canonical(decoded, arrival.received_at, pseudonyms)
    rejections = sorted(
        _without_ids(decoded.rejections, decoded, arrival.user_id) + too_old,
        key=lambda rejection: rejection.index,
    )
    if not stored:
        raise AllRejected(rejections)
    batch_id = decoded.batch_id or uuid.uuid4()
    if decoded.named_by_content and digest:
        # Claimed once, for as long as an id is.
        batch_id, digest = digest, None
    accepted = len({record.position for record in stored})
    state = _write(
        _ACCEPT if not rejections else _ACCEPT_SOME,
        arrival,
        {
            "batch_id": batch_id,
            "digest": digest,
            "claim_until": arrival.received_at + CLAIM_WINDOW,
            "digest_until": arrival.received_at + DIGEST_WINDOW,
            "received": Int4(accepted + len(rejections)),
            "rejected": Int4(len(rejections)),
            "refusals": _refusals(rejections),
            "payload": pack(stored),
        },
    )
    logs.note(batch_id=str(batch_id))
    if state == Batch.State.RECEIVED:
        nudger.request()
    receipt = Receipt(batch_id, accepted, rejections, duplicate=state == Batch.State.DUPLICATE)
    _count(receipt, arrival)
    return receipt


def clean(
    records: Sequence[Record | Point], mode: Mode, rules: Rules, pseudonyms: Pseudonyms
) -> None:
    """Scrub records in place, then apply the project's rules.

    In this order: scrubbing learns from properties which ids to look for elsewhere, which a rule
    may drop, and recognises whole values, of which a rule may leave a part.
    """
    scrub(records, mode, pseudonyms)
    if rules:
        rules.apply(records, pseudonyms)


def refuse(arrival: Arrival, code: str, rejections: list[Rejection]) -> None:
    """Keep the record of a refusal: a ledger row without payload or claim, and the reasons.

    Raises what `accept` raises where nothing can be written now.
    """
    _check_disk()
    parameters = {
        "batch_id": None,
        "received": Int4(len(rejections)),
        "rejected": Int4(len(rejections)),
        "error": code,
        "refusals": _refusals(rejections),
    }
    _write(_REFUSE, arrival, parameters)
    if rejections:
        instruments.events(arrival.format, "rejected").inc(len(rejections))


def _count(receipt: Receipt, arrival: Arrival) -> None:
    """Tell the metrics of a batch that is durable now."""
    name, rejected = arrival.format, len(receipt.rejections)
    instruments.batch_events(name).observe(receipt.accepted + rejected)
    instruments.accept_seconds(name).observe(time.perf_counter() - arrival.started)
    if rejected:
        instruments.events(name, "rejected").inc(rejected)
    if receipt.duplicate:
        instruments.events(name, "duplicate").inc(receipt.accepted)


def _canonical(
    decoded: DecodedBatch, received_at: datetime, pseudonyms: Pseudonyms
) -> tuple[list[StoredRecord | StoredPoint], list[Rejection]]:
    """Pseudonymised records with corrected clocks, and the refusals of those that are too old.

    A clock that runs ahead is corrected by the difference; a late batch is left as it is; what
    would still lie in the future happened now, and so did what names no time.
    """
    now = microseconds(received_at)
    oldest = {kind: now - _days_taken(kind) * 86_400_000_000 for kind in (Record, Point)}
    ahead = _clock_ahead(decoded.sent_at, received_at)
    subject, session = cache(pseudonyms.subject), cache(pseudonyms.session)
    stored: list[StoredRecord | StoredPoint] = []
    too_old: dict[int, Rejection] = {}
    for record in decoded.records:
        moment = record.occurred_at
        occurred = now if moment is None else min(microseconds(moment) - ahead, now)
        if occurred < oldest[type(record)]:
            too_old[record.position] = _too_old(record)
            continue
        user = subject(record.user_id) if record.user_id is not None else None
        if isinstance(record, Point):
            stored.append(_stored_point(record, occurred, user))
            continue
        stored.append(
            StoredRecord(
                record.position,
                occurred,
                record.name,
                user,
                session(record.session_id) if record.session_id is not None else None,
                record.category,
                record.level,
                record.scope,
                record.client_version,
                record.message,
                record.properties,
            )
        )
    return stored, list(too_old.values())


def _stored_point(point: Point, occurred: int, subject: bytes | None) -> StoredPoint:
    return StoredPoint(
        point.position,
        point.part,
        occurred,
        point.name,
        point.kind,
        subject,
        point.node,
        point.tags,
        point.cumulative,
        point.value,
        point.samples,
        point.count,
        point.sum,
        point.min,
        point.max,
        point.weights,
        microseconds(point.started_at) if point.started_at is not None else None,
    )


def _days_taken(kind: type[Record | Point]) -> int:
    """How old something may be that arrives: what is past its retention would be lost anyway."""
    kept = settings.METRIC_RETENTION_DAYS if kind is Point else settings.EVENT_RETENTION_DAYS
    return min(settings.MAX_AGE_DAYS, kept)


def _clock_ahead(sent_at: datetime | None, received_at: datetime) -> int:
    """Microseconds by which the client's clock runs ahead, 0 within the tolerance."""
    if sent_at is None:
        return 0
    ahead = microseconds(sent_at) - microseconds(received_at)
    return ahead if ahead > CLOCK_TOLERANCE // timedelta(microseconds=1) else 0


def _too_old(record: Record | Point) -> Rejection:
    days = _days_taken(type(record))
    ago = f"{days} days" if days > 1 else "a day"
    return Rejection(record.position, "too_old", f"timestamp is more than {ago} ago", "timestamp")


def _digest(decoded: DecodedBatch, pseudonyms: Pseudonyms) -> uuid.UUID | None:
    """What a client that rebuilds its batch sends again; None where two may well send the same.

    Two do who name neither a user nor a session nor a node (to the millisecond, as most write
    their times), and one does who names no time.
    """
    records = decoded.records
    anonymous = decoded.named_by_content
    if all(record.occurred_at and (anonymous or record.sender) for record in records):
        return uuid.UUID(bytes=pseudonyms.digest(_encode(records)))
    return None


def _without_ids(
    rejections: list[Rejection], decoded: DecodedBatch, user_id: str | None
) -> list[Rejection]:
    """Refused events; the names of those that are kept hold no user id of their request."""
    if not rejections:
        return []
    ids = {record.user_id for record in decoded.records} | {decoded.user_id, user_id}
    known = [known_id for known_id in ids if known_id]
    kept = [
        msgspec.structs.replace(
            rejection,
            shape={name_without(name, known): kind for name, kind in rejection.shape.items()},
        )
        for rejection in rejections[:REFUSALS_KEPT]
    ]
    return kept + rejections[REFUSALS_KEPT:]


def _refusals(rejections: list[Rejection]) -> Jsonb | None:
    """The refused events that are written down, as rows for the database.

    Of what was sent they hold the fields' names, which may be anything.
    """
    if not rejections:
        return None
    rows = [msgspec.to_builtins(rejection) for rejection in rejections[:REFUSALS_KEPT]]
    for row in rows:
        row["shape"] = {scrub_text(name): kind for name, kind in row.get("shape", {}).items()}
    return Jsonb(rows)


def _check_disk() -> None:
    now = time.monotonic()
    if now - _disk.looked_at > _DISK_SECONDS:
        _disk.free, _disk.looked_at = shutil.disk_usage(settings.DATA_DIR).free, now
    if _disk.free < settings.MIN_FREE_DISK_BYTES:
        raise DiskFull


class _Disk:
    """What is left on the data folder's disk, looked at now and then."""

    looked_at = float("-inf")
    free = 0


_disk = _Disk()


# One statement each: no crash can leave a claim without its ledger row, or the other way round.
# A content is claimed only by a batch whose id is new: one that isn't stored must not make its
# rebuilt twin a duplicate. Whoever comes second waits here for the first to commit.
_ARRIVAL = """
INSERT INTO ingest_batch
    (id, day, project_id, batch_id, format, state, received_at, received, duplicate, rejected,
     wire_bytes, body_bytes, request_id, error, duplicate_of, payload)
"""
_ACCEPT = f"""
WITH entry AS (
    SELECT nextval('ingest_batch_id_seq') AS id
), claim AS (
    INSERT INTO ingest_batchclaim (project_id, key, batch_id, ledger_day, ledger_id, expires_at)
    SELECT %(project)s, %(batch_id)s, %(batch_id)s, %(day)s, id, %(claim_until)s FROM entry
    ON CONFLICT (project_id, key) DO NOTHING
    RETURNING key
), content AS (
    INSERT INTO ingest_batchclaim AS held
        (project_id, key, batch_id, ledger_day, ledger_id, expires_at)
    SELECT %(project)s, %(digest)s::uuid, %(batch_id)s, %(day)s, id, %(digest_until)s
    FROM entry, claim WHERE %(digest)s::uuid IS NOT NULL
    ON CONFLICT (project_id, key) DO UPDATE SET
        batch_id = CASE WHEN held.expires_at < %(now)s
            THEN EXCLUDED.batch_id ELSE held.batch_id END,
        expires_at = CASE WHEN held.expires_at < %(now)s
            THEN EXCLUDED.expires_at ELSE held.expires_at END
    RETURNING batch_id
), verdict AS (
    SELECT id, holder, holder = %(batch_id)s AND EXISTS (SELECT FROM claim) AS fresh
    FROM entry, coalesce((SELECT batch_id FROM content), %(batch_id)s) AS holder
), ledger AS (
    {_ARRIVAL}
    SELECT id, %(day)s, %(project)s, %(batch_id)s, %(format)s,
        CASE WHEN fresh THEN 'received' ELSE 'duplicate' END,
        %(now)s, %(received)s,
        CASE WHEN fresh THEN 0 ELSE %(received)s - %(rejected)s END, %(rejected)s,
        %(wire_bytes)s, %(body_bytes)s, %(request_id)s, '',
        CASE WHEN NOT fresh THEN holder END,
        CASE WHEN fresh THEN %(payload)b::bytea END
    FROM verdict
    RETURNING id, state
)"""
_REFUSED_EVENTS = """, refused AS (
    INSERT INTO ingest_rejectedevent
        (day, project_id, batch, format, received_at, position, code, field, message, shape)
    SELECT %(day)s, %(project)s, ledger.id, %(format)s, %(now)s,
        r.index, r.code, left(r.field, 200), r.message, coalesce(r.shape, '{}')
    FROM ledger, jsonb_to_recordset(%(refusals)s)
        AS r (index integer, code text, field text, message text, shape jsonb)
)"""
_STATE = " SELECT state FROM ledger"
_ACCEPT_SOME = _ACCEPT + _REFUSED_EVENTS + _STATE
_ACCEPT = _ACCEPT + _STATE
_REFUSE = f"""
WITH ledger AS (
    {_ARRIVAL}
    SELECT nextval('ingest_batch_id_seq'), %(day)s, %(project)s, %(batch_id)s::uuid, %(format)s,
        'rejected', %(now)s, %(received)s, 0, %(rejected)s, %(wire_bytes)s, %(body_bytes)s,
        %(request_id)s, %(error)s, NULL, NULL
    RETURNING id, state
){_REFUSED_EVENTS}{_STATE}"""


def _write(statement: LiteralString, arrival: Arrival, parameters: dict[str, Any]) -> str:
    """Run a statement above, once more where that can help; the ledger row's state.

    Numbers are sent as one type whatever their size: each mix of types is a statement of its own.
    A second try is safe even if the first one was committed unheard: it finds its own claim.
    """
    values = parameters | {
        "project": Int4(arrival.grant.project_id),
        "format": arrival.format,
        "request_id": arrival.request_id,
        "day": arrival.received_at.date(),
        "now": arrival.received_at,
        "wire_bytes": Int4(arrival.wire_bytes),
        "body_bytes": Int4(arrival.body_bytes),
    }
    try:
        return _execute(statement, values)
    except psycopg.errors.CheckViolation:
        # Today has no partition: no maintenance ran for a week.
        partitions.ensure(partitions.LEDGER, values["day"])
        partitions.ensure(partitions.REJECTED, values["day"])
    except psycopg.OperationalError:
        # Kept connections outlive a restart of the server unnoticed.
        if connection.connection is not None and not connection.connection.closed:
            raise
        connection.close()
    return _execute(statement, values)


def _execute(statement: LiteralString, values: dict[str, Any]) -> str:
    row = prepared.execute(statement, values).fetchone()
    assert row is not None
    return str(row[0])
