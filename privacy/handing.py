"""Handing the file of an export over: to whom a link was given, and at whose pace."""

import gzip
import logging
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.core.files import File
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.utils import timezone

from privacy import audit, drafts
from privacy.models import ExportRequest
from telemetry_site import stalls

logger = logging.getLogger(__name__)

# How long a link to a file works; whoever may ask how far an export is gets a new one each time.
LINK_LIFE = timedelta(hours=1)
# A reader's pace is looked at between pieces.
_PIECE = 16 * 1024
# Whoever reads more slowly than this, in bytes a second, is cut off when the grace is over.
SLOWEST = 32 * 1024
GRACE_SECONDS = 30.0
_SIGNER = TimestampSigner(salt="privacy.export")


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
        export.state == ExportRequest.State.DONE
        and export.expires_at is not None
        and export.expires_at > timezone.now()
    )


def content(export: ExportRequest, most: int) -> bytes | None:
    """What the file says; None where that is more than so many bytes, or the file is gone."""
    try:
        with drafts.storage().open(export.file) as file, gzip.open(file) as unpacked:
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
            self._file: File[bytes] | None = drafts.storage().open(export.file)
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
