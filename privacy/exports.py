"""Handing a person's data over: asking for it, making the file, and deleting it in time.

A request is a row; the worker that takes it holds a lock of the database session, which dies with
the process: what a killed worker left is taken up by the next one, from the beginning. The file is
written without a name, so that a death leaves nothing of it, and gets one when it is complete; the
row names it before it exists, so that no file is ever without a row that leads to it, but for those
whose row was erased meanwhile.
"""

import gzip
import logging
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import IO
from uuid import UUID, uuid4

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage, storages
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.db import connection, transaction
from django.utils import timezone

from ingest.attempts import FORGIVEN
from privacy import audit, drafts
from privacy.export import Gathering
from privacy.models import DeletionRequest, ExportRequest
from telemetry_site import stalls
from telemetry_site.alone import alone_at
from telemetry_site.celery import BROKER_ERRORS, app, broker_connection

logger = logging.getLogger(__name__)

State = ExportRequest.State
TASK = "privacy.tasks.make_exports"
QUEUE = "privacy"
MOST_ATTEMPTS = 5
# How long a link to a file works; whoever may ask how far an export is gets a new one each time.
LINK_LIFE = timedelta(hours=1)

# Advisory locks: who asks for the same person waits for the other, and one worker makes exports.
_ASKING = 0x61736B65  # "aske"
_MAKING = 0x6578706F  # "expo"
_ALL = "all"
_SECONDS_BETWEEN_LOOKS = 0.02
_COMPRESSED_AT_ONCE = 256 * 1024
# A reader's pace is looked at between pieces.
_PIECE = 16 * 1024
# Whoever reads more slowly than this, in bytes a second, is cut off when the grace is over.
SLOWEST = 32 * 1024
GRACE_SECONDS = 30.0
_GZIP = 31  # what zlib calls a window of 32 KiB in a gzip file
_SIGNER = TimestampSigner(salt="privacy.export")


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
        _storage().delete(left)
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
        drafts.keep(draft, export.file, _storage())
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
        _storage().delete(export.file)


def _withdraw_earlier(export: ExportRequest) -> None:
    """Delete the files that a person's new export takes the place of: there is one of each person,
    however often they ask."""
    earlier = ExportRequest.objects.filter(
        project_id=export.project_id, subject=export.subject, state=State.DONE
    ).exclude(pk=export.pk)
    for old in earlier:
        _storage().delete(old.file)
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


# --- handing over ---


def signature(export: ExportRequest) -> str:
    """What opens the file, of this export alone, for `LINK_LIFE`."""
    return _SIGNER.sign(str(export.pk)).partition(_SIGNER.sep)[2]


def is_signed(export_id: UUID, given: str) -> bool:
    """Whether this is a signature of the export; raises SignatureExpired for an old one."""
    try:
        _SIGNER.unsign(f"{export_id}{_SIGNER.sep}{given}", max_age=LINK_LIFE)
    except SignatureExpired:
        raise
    except BadSignature:
        return False
    return True


def has_file(export: ExportRequest) -> bool:
    """Whether its file is there to be fetched."""
    return (
        export.state == State.DONE
        and export.expires_at is not None
        and export.expires_at > timezone.now()
    )


def content(export: ExportRequest, most: int) -> bytes | None:
    """What the file says; None where that is more than so many bytes, or the file is gone."""
    try:
        with _storage().open(export.file) as file, gzip.open(file) as unpacked:
            said: bytes = unpacked.read(most + 1)
    except FileNotFoundError:
        return None
    return said if len(said) <= most else None


class Busy(Exception):
    """So many files are being fetched that one more would take a thread from those who send."""


class AlreadyFetched(Exception):
    """This file is being fetched right now: nobody takes more than one of the few places."""


class Handing:
    """A file on its way to whoever fetches it: piece by piece, and who reads slowly holds up the
    thread that gives. Who reads too slowly gets no more of it, and who stops reading is cut off by
    the kernel (see `telemetry_site.stalls`).

    Raises AlreadyFetched, Busy, and FileNotFoundError where the file is gone.
    """

    _slots = threading.BoundedSemaphore(max(1, settings.WEB_THREADS // 4))
    _under_way: set[UUID] = set()
    _lock = threading.Lock()

    def __init__(self, export: ExportRequest) -> None:
        self._export_id = export.pk
        self._size = export.bytes
        self._counts = True
        with self._lock:
            if export.pk in self._under_way:
                raise AlreadyFetched
            if not self._slots.acquire(blocking=False):
                raise Busy
            self._under_way.add(export.pk)
        try:
            self._file: File[bytes] | None = _storage().open(export.file)
        except BaseException:
            self._leave()
            self._slots.release()
            raise

    def __iter__(self) -> Iterator[bytes]:
        begun = time.monotonic()
        given = 0
        while self._file is not None and (piece := self._file.read(_PIECE)):
            if time.monotonic() - begun > GRACE_SECONDS + given / SLOWEST:
                logger.warning("a download is cut off: its reader is too slow")
                return
            given += len(piece)
            if given >= self._size:
                # Whoever has all of it may come again before the server has closed this.
                self._leave()
            yield piece

    def close(self) -> None:
        """Called by the server, however it ended."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
            self._leave()
            self._slots.release()

    def _leave(self) -> None:
        """Let the file be fetched again; once, since somebody may do so at once."""
        with self._lock:
            if self._counts:
                self._counts = False
                self._under_way.discard(self._export_id)


def hand_over(export: ExportRequest) -> Handing:
    """Begin to hand a file over, which is on record once it has begun. Raises as Handing does."""
    handing = Handing(export)
    try:
        stalls.end_stalled()
        audit.record(
            "export.downloaded", "link holder", project_id=export.project_id, of=str(export.pk)
        )
    except BaseException:
        handing.close()
        raise
    return handing


# --- deleting ---


def expire() -> None:
    """Delete the files whose time is over, and forget whose they were."""
    over = ExportRequest.objects.filter(expires_at__lt=timezone.now()).exclude(subject=None)
    for export in over.iterator(chunk_size=100):
        if export.file:
            _storage().delete(export.file)
        if export.state == State.DONE:
            export.state = State.EXPIRED
        export.subject, export.file = None, ""
        export.save(update_fields=["state", "subject", "file"])
    _sweep()


def _sweep() -> None:
    """Delete files that no row leads to: of a worker killed just before it would have done it."""
    try:
        names = {name for name in _storage().listdir("")[1] if name.endswith(drafts.ENDING)}
    except FileNotFoundError:
        return  # there never was one
    known = ExportRequest.objects.filter(file__in=names).values_list("file", flat=True)
    for name in names - set(known):
        _storage().delete(name)
        logger.warning("an export's file that no request leads to is deleted")


def _storage() -> Storage:
    return storages["exports"]
