"""Exports of a person's data: asking for one, making the file, and deleting it in time.

A request is a row; the worker that takes it holds a lock of the database session, which dies with
the process: what a killed worker left is taken up by the next one, from the beginning. The file is
written without a name, so that a death leaves nothing of it, and gets one when it is complete; the
row names it before it exists, so that no file is ever without a row that leads to it, but for those
whose row was erased meanwhile.
"""

import logging
import time
import zlib
from collections.abc import Iterable
from datetime import timedelta
from typing import IO
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from ingest.attempts import FORGIVEN
from privacy import audit, drafts
from privacy.export import Gathering
from privacy.models import DeletionRequest, ExportRequest
from telemetry_site.alone import alone_at
from telemetry_site.celery import BROKER_ERRORS, app, broker_connection

logger = logging.getLogger(__name__)

State = ExportRequest.State
TASK = "privacy.tasks.make_exports"
QUEUE = "privacy"
MOST_ATTEMPTS = 5

# Advisory locks: who asks for the same person waits for the other, and one worker makes exports.
_ASKING = 0x61736B65  # "aske"
_MAKING = 0x6578706F  # "expo"
_ALL = "all"
_SECONDS_BETWEEN_LOOKS = 0.02
_COMPRESSED_AT_ONCE = 256 * 1024
_GZIP = 31  # what zlib calls a window of 32 KiB in a gzip file


# --- asking ---


def ask(project_id: int, subject: bytes, actor: str) -> ExportRequest:
    """Write down that a person's data is wanted; while one waits or is made, it is that one."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            lock = int.from_bytes(subject[:4], "big", signed=True)
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_ASKING, lock])
        request, created = ExportRequest.objects.get_or_create(
            project_id=project_id, subject=subject, state__in=ExportRequest.OPEN
        )
        audit.record(
            "export.asked" if created else "export.asked_again",
            actor,
            project_id=project_id,
            of=str(request.pk),
        )
    return request


def nudge() -> bool:
    """Let a worker take what waits; False where the broker is away, and the schedule must do."""
    try:
        with broker_connection() as broker:
            app.send_task(TASK, queue=QUEUE, connection=broker, retry=False)
    except BROKER_ERRORS as error:
        logger.warning("exports wait for the schedule: %s", type(error).__name__)
        return False
    return True


def wait(request: ExportRequest, seconds: float) -> None:
    """Return when the export is settled, or the time is over."""
    deadline = time.monotonic() + seconds
    while request.state in ExportRequest.OPEN and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, _SECONDS_BETWEEN_LOOKS))
        try:
            request.refresh_from_db()
        except ExportRequest.DoesNotExist:
            # The person is being erased, and what they asked for with them.
            request.state = State.EXPIRED


def find(export_id: UUID, project_id: int | None = None) -> ExportRequest | None:
    """The export with this id, of one project where one is given."""
    of = {} if project_id is None else {"project_id": project_id}
    return ExportRequest.objects.filter(pk=export_id, **of).first()


# --- making ---


def make_waiting(seconds: float) -> bool:
    """Make the exports that wait, until the time is over; whether some may be left.

    One process at a time does, so that others of the queue are free for erasures.
    """
    deadline = time.monotonic() + seconds
    try:
        drafts.check_room()
    except drafts.NoRoom:
        logger.error("exports wait: the disk is nearly full")
        return False
    waiting = ExportRequest.objects.filter(state__in=ExportRequest.OPEN).order_by("requested_at")
    with alone_at(_MAKING, _ALL) as alone:
        if not alone:
            return False
        seen = list(waiting.values_list("pk", flat=True))
        for export_id in seen:
            if time.monotonic() > deadline:
                return True
            if export := _claim(export_id):
                _make(export)
    # Whoever came meanwhile found that somebody is at it.
    return waiting.exclude(pk__in=seen).exists()


def _claim(export_id: UUID) -> ExportRequest | None:
    """Take an export that still waits, or was left by a worker that died; None where none does."""
    with transaction.atomic():
        export = _open(export_id)
        if export is None or _is_being_erased(export):
            return None
        left = export.file
        if export.attempts < MOST_ATTEMPTS:
            export.attempts += 1
            export.state = State.RUNNING
            export.file = uuid4().hex + drafts.ENDING
        else:
            _fail(export, "The worker died each time it was made.")
        export.save()
    if left:
        drafts.storage().delete(left)
    return export if export.state == State.RUNNING else None


def _open(export_id: UUID) -> ExportRequest | None:
    """The export if it is still to be made, its row locked until the transaction ends."""
    found = ExportRequest.objects.select_for_update().filter(
        pk=export_id, state__in=ExportRequest.OPEN
    )
    return found.exclude(subject=None).first()


def _is_being_erased(export: ExportRequest) -> bool:
    """Whether the person's data goes just now: what could be read of it would be half of it."""
    return DeletionRequest.objects.filter(
        project_id=export.project_id,
        subject=export.subject,
        state__in=(DeletionRequest.State.RUNNING, DeletionRequest.State.FAILED),
    ).exists()


def _make(export: ExportRequest) -> None:
    try:
        _gather(export)
    except FORGIVEN:
        raise
    except drafts.NoRoom as error:
        logger.error("an export stops halfway: the disk is nearly full")
        _try_again(export, type(error).__name__)
    except Exception as error:
        logger.exception("an export failed")
        _try_again(export, type(error).__name__)


def _gather(export: ExportRequest) -> None:
    """Write the file and publish it; not if the person was erased meanwhile."""
    gathering = Gathering(export.project_id, bytes(export.subject or b""))
    with drafts.begin() as draft:
        _compress(gathering.pieces(), draft)
        size = draft.tell()
        drafts.keep(draft, export.file, drafts.storage())
    with transaction.atomic():
        current = _open(export.pk)
        if published := current is not None and current.file == export.file:
            now = timezone.now()
            current.state = State.DONE
            current.finished_at = now
            current.expires_at = now + timedelta(days=settings.EXPORT_DAYS)
            current.bytes = size
            current.events, current.points = gathering.events, gathering.points
            current.error = ""
            current.save()
            audit.record("export.made", "system", project_id=export.project_id, of=str(export.pk))
    if published:
        _withdraw_earlier(export)
    else:
        drafts.storage().delete(export.file)


def _withdraw_earlier(export: ExportRequest) -> None:
    """Delete the files that a person's new export takes the place of: there is one of each person,
    however often they ask."""
    earlier = ExportRequest.objects.filter(
        project_id=export.project_id, subject=export.subject, state=State.DONE
    ).exclude(pk=export.pk)
    for old in earlier:
        drafts.storage().delete(old.file)
        earlier.filter(pk=old.pk).update(state=State.EXPIRED, file="")


def _compress(pieces: Iterable[bytes], file: IO[bytes]) -> None:
    """At the quickest level: others cost three times the time for a fifth of the size."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _COMPRESSED_AT_ONCE:
            drafts.check_room()
            file.write(compressor.compress(b"".join(held)))
            held.clear()
            size = 0
    file.write(compressor.compress(b"".join(held)))
    file.write(compressor.flush())


def _try_again(export: ExportRequest, error: str) -> None:
    """Let it wait for the next sweep, unless that was the last attempt."""
    with transaction.atomic():
        current = _open(export.pk)
        if current is None:
            return
        current.state = State.WAITING
        current.error = error
        if current.attempts >= MOST_ATTEMPTS:
            _fail(current, f"It could not be made in {MOST_ATTEMPTS} attempts ({error}).")
        current.save()


def _fail(export: ExportRequest, sentence: str) -> None:
    now = timezone.now()
    export.state = State.FAILED
    export.error = sentence
    export.finished_at = now
    export.expires_at = now + timedelta(days=settings.EXPORT_DAYS)
    audit.record("export.failed", "system", project_id=export.project_id, of=str(export.pk))


# --- deleting ---


def expire() -> None:
    """Delete the files whose time is over, and forget whose they were."""
    over = ExportRequest.objects.filter(expires_at__lt=timezone.now()).exclude(subject=None)
    for export in over.iterator(chunk_size=100):
        if export.file:
            drafts.storage().delete(export.file)
        if export.state == State.DONE:
            export.state = State.EXPIRED
        export.subject, export.file = None, ""
        export.save(update_fields=["state", "subject", "file"])
    _sweep()


def _sweep() -> None:
    """Delete files that no row leads to: of a worker killed just before it would have done it."""
    try:
        names = {name for name in drafts.storage().listdir("")[1] if name.endswith(drafts.ENDING)}
    except FileNotFoundError:
        return  # there never was one
    known = ExportRequest.objects.filter(file__in=names).values_list("file", flat=True)
    for name in names - set(known):
        drafts.storage().delete(name)
        logger.warning("an export's file that no request leads to is deleted")
