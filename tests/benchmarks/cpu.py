"""CPU seconds by group of processes, and memory by process, as the operating system counts them."""

import contextlib
from dataclasses import dataclass

import psutil

# What the command line of each group's first process contains; they are children of `up`.
ROLES = {
    "web": "granian",
    "ingest": "worker -Q ingest",
    "default": "worker -Q default",
    "privacy": "worker -Q privacy",
    "rollup": "worker -Q rollup",
    "forward": "worker -Q forward",
    "beat": " beat ",
    "postgres": "bin/postgres -D",
    "redis": "redis-server",
}
UP = "up"


@dataclass(frozen=True)
class Usage:
    """CPU seconds by group."""

    groups: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.groups.values())

    def __sub__(self, earlier: "Usage") -> "Usage":
        return Usage({name: used - earlier.groups[name] for name, used in self.groups.items()})


def groups(up: psutil.Process) -> dict[str, psutil.Process]:
    """The first process of each group below `up`; the postmaster, for PostgreSQL."""
    found = {UP: up}
    for process in up.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            line = " ".join(process.cmdline()) + " "
            found |= {role: process for role, mark in ROLES.items() if mark in line}
    return found


def usage(parents: dict[str, psutil.Process]) -> Usage:
    """What each group has used up to now, children that have ended included.

    A child's time moves to its parent's `children` when it is reaped, so that over the living tree
    nothing is counted twice and nothing is lost. `up` reaps whole groups: only its own time counts.
    """
    return Usage(
        {
            name: _own(process) if name == UP else _whole(process)
            for name, process in parents.items()
        }
    )


def tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and everything below it."""
    return [process, *process.children(recursive=True)]


def rss(process: psutil.Process) -> int:
    """Its resident bytes; 0 once it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _own(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _whole(process: psutil.Process) -> float:
    """The time of a tree; looked at again where a process ended meanwhile, which moves its time."""
    while True:
        try:
            return sum(map(_with_ended, tree(process)))
        except psutil.NoSuchProcess as error:
            if error.pid == process.pid:
                raise


def _with_ended(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
