"""Which files a process counts in: those of its slot.

prometheus_client names them after the process's number. Pool processes come and go, so that the
files would grow in number for ever; deleted with their process, its counts would be lost. A new
process takes over the lowest slot nobody holds, and counts on where its predecessor stopped.
"""

import fcntl
import itertools
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key

GAUGES = "gauge"
PREFIXES = ("counter", "histogram", f"{GAUGES}_max")
# Room for a thousand series. Allocated, not only named: on a full disk the first touch of a page
# without a block would kill the process (SIGBUS).
FILE_BYTES = 256 * 1024


_pack = struct.Struct("dd").pack


class Slot:
    """This process's slot, held until the process ends, by a lock; a forked child takes another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: IO[bytes] | None = None
        self._files: dict[str, MmapedDict] = {}
        self.lock = threading.Lock()  # of the process's threads
        self.forks = 0
        os.register_at_fork(after_in_child=self._forget)

    def file(self, prefix: str) -> MmapedDict:
        """The slot's file of one kind of metrics."""
        if self._held is None:
            number, self._held = self._take()
            self._prepare(number)
        return self._files[prefix]

    def _take(self) -> tuple[int, IO[bytes]]:
        for number in itertools.count():
            lock = _lock_file(self._folder, number).open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
            else:
                return number, lock
        raise AssertionError

    def _prepare(self, number: int) -> None:
        for prefix in PREFIXES:
            path = self._folder / f"{prefix}_{number}.db"
            # A gauge says what is so now: that ended with the predecessor.
            if prefix.startswith(GAUGES) or not path.exists():
                _make(path)
            self._files[prefix] = MmapedDict(str(path))

    def _forget(self) -> None:
        """In a child: the slot is its parent's, whose lock outlives the end of our copy."""
        self.forks += 1
        self.lock = threading.Lock()  # a thread of the parent's may have had it
        if self._held is not None:
            self._held.close()
            self._held = None
        for file in self._files.values():
            file.close()


def value_class(slot: Slot) -> type:
    """What prometheus_client is to keep its numbers in, in place of its own `MultiProcessValue`.

    That one costs a request 3 µs more, and a child that is forked while a thread of its parent
    counts waits for ever.
    """

    class Value:
        def __init__(
            self, typ: str, metric: str, name: str, labels: Any, values: Any, text: str,
            multiprocess_mode: str = "", **_: Any,
        ) -> None:  # fmt: skip
            self._prefix = f"{typ}_{multiprocess_mode}" if multiprocess_mode else typ
            self._key = mmap_key(metric, name, labels, values, text)
            with slot.lock:
                self._open()

        def _open(self) -> None:
            file = slot.file(self._prefix)
            self._value, _ = file.read_value(self._key)
            at = file._positions[self._key]
            self._map, self._place, self._forks = file._m, slice(at, at + 16), slot.forks

        def inc(self, amount: float) -> None:
            with slot.lock:
                if self._forks != slot.forks:
                    self._open()
                self._value += amount
                self._map[self._place] = _pack(self._value, 0.0)

        def set(self, value: float, timestamp: float | None = None) -> None:
            with slot.lock:
                if self._forks != slot.forks:
                    self._open()
                self._value = value
                self._map[self._place] = _pack(value, timestamp or 0.0)

    return Value


def _make(path: Path) -> None:
    """A file that is whole as soon as a reader can see it."""
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
    draft.replace(path)


def files(folder: Path) -> list[str]:
    """The files to be added up: all counts, and what is so now in the processes that live."""
    return [
        str(path)
        for number in _numbers(folder)
        for prefix in PREFIXES
        if (path := folder / f"{prefix}_{number}.db").exists()
        and (not prefix.startswith(GAUGES) or _is_held(folder, number))
    ]


def _numbers(folder: Path) -> Iterator[int]:
    return (int(path.stem) for path in folder.glob("*.lock"))


def _is_held(folder: Path, number: int) -> bool:
    with _lock_file(folder, number).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _lock_file(folder: Path, number: int) -> Path:
    return folder / f"{number}.lock"
