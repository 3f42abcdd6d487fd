"""What a process remembers of projects and keys for a few seconds.

So the hot path asks the database nothing about a caller it knows, and a flood of made-up keys can't
fill the memory. A change is seen at a process's next limited request, by the counters' generation;
with Redis away once `TELEMETRY_KEY_CACHE_SECONDS` have passed.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from cachetools import TTLCache
from django.conf import settings

from ingest.counters import counters
from ingest.models import ApiKey, Project

T = TypeVar("T")

_THINGS = 10_000
_UNKNOWN = object()


class Memory:
    """Things looked up by kind and name, those that there aren't included."""

    def __init__(self) -> None:
        self._things: TTLCache[tuple[str, str], Any] = TTLCache(_THINGS, settings.KEY_CACHE_SECONDS)
        self._lock = threading.Lock()
        self._generation = 0

    def get(self, kind: str, name: str, look_up: Callable[[str], T]) -> T:
        """What `look_up(name)` says, as it was at most a few seconds ago."""
        with self._lock:
            if self._generation != counters.generation:
                self._generation = counters.generation
                self._things.clear()
            generation = self._generation
            known = self._things.get((kind, name), _UNKNOWN)
        if known is not _UNKNOWN:
            return cast("T", known)
        found = look_up(name)
        with self._lock:
            # What was looked up before a change may be as it was.
            if generation == self._generation:
                self._things[kind, name] = found
        return found


memory = Memory()


def key(prefix: str) -> ApiKey | None:
    """The usable key with this prefix, its project with it."""
    return memory.get("key", prefix, _key)


def project(slug: str) -> Project | None:
    """The project with this slug."""
    return memory.get("project", slug, lambda slug: Project.objects.filter(slug=slug).first())


def anonymous_project() -> Project | None:
    """The project that takes what comes without a key, if this instance has one."""
    return project(settings.ANONYMOUS_PROJECT) if settings.ANONYMOUS_PROJECT else None


def keyless_project(origin: str) -> Project | None:
    """The one project that takes what pages of this origin send without a key."""
    return memory.get("keyless", origin, _keyless)


def is_origin(origin: str) -> bool:
    """Whether any project lists this origin."""
    return memory.get(
        "origin", origin, lambda origin: Project.objects.filter(origins__contains=[origin]).exists()
    )


def _key(prefix: str) -> ApiKey | None:
    found = ApiKey.objects.usable(prefix)
    if found is not None:
        found.note_use()
    return found


def _keyless(origin: str) -> Project | None:
    found = Project.objects.filter(keyless_browsers=True, origins__contains=[origin])[:2]
    # Two projects of one origin need keys to be told apart.
    return found[0] if len(found) == 1 else None
