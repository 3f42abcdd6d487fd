"""The draft of an export: a file without a name, which a killed worker takes with it.

While it is written the disk is looked at: whoever has much data must not be who stops accepting.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages

# What names of export files end with.
ENDING = ".json.gz"


class NoRoom(Exception):
    """The disk is so full that the alarm tells of it: nothing is written for exports then."""


if TYPE_CHECKING:
    # It takes its argument in the stubs alone.
    _File = File[bytes]
else:
    _File = File


class _Named(_File):
    """A file that Django's storage in a folder moves instead of copying it."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self._path = path

    def temporary_file_path(self) -> str:
        """Where it is moved from."""
        return str(self._path)


def storage() -> Storage:
    """Where the files of exports are kept."""
    return storages["exports"]


def check_room() -> None:
    """Raise NoRoom where the disk of the data folder is nearly full."""
    if shutil.disk_usage(settings.DATA_DIR).free < settings.DISK_ALARM_BYTES:
        raise NoRoom


def begin() -> IO[bytes]:
    """A new draft, on the data folder's disk."""
    try:
        return open(settings.DATA_DIR, "w+b", opener=_without_a_name)
    except OSError:
        # A file system on which no file without a name can get one.
        return tempfile.TemporaryFile(dir=settings.DATA_DIR)


def keep(draft: IO[bytes], name: str, storage: Storage) -> None:
    """Give a draft its name in the storage; in a folder it isn't copied for that."""
    draft.seek(0)
    storage.save(name, _movable(draft, storage) or File(draft))


def _without_a_name(folder: str, _: int) -> int:
    # Not as Python's TemporaryFile opens it, whose files never get a name.
    return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)


def _movable(draft: IO[bytes], storage: Storage) -> _Named | None:
    """The draft by a name in the storage's folder; None where it can't have one.

    Should the worker die right here, the sweep finds a file that no request leads to.
    """
    if not isinstance(storage, FileSystemStorage):
        return None
    path = Path(storage.location) / f"{uuid4().hex}{ENDING}"
    draft.flush()
    try:
        _link(draft, path)
    except OSError:
        return None  # no folder yet, another disk, or a file system as above
    return _Named(draft, path)


def _link(draft: IO[bytes], path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Python follows the first link only where it is given a folder.
        os.link(
            f"/proc/self/fd/{draft.fileno()}", path.name, dst_dir_fd=folder, follow_symlinks=True
        )
    finally:
        os.close(folder)
