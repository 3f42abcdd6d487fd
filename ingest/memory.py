"""What a process remembers of projects, keys and blocks for a few seconds.

So the hot path asks the database nothing about a caller it knows, and a flood of made-up keys can't
fill the memory. A change is seen at a process's next limited request, by the counters' generation;
with Redis away once `TELEMETRY_KEY_CACHE_SECONDS` have passed.
"""

import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import Any, TypeVar, cast

from cachetools import TTLCache
from django.conf import settings

from ingest.addresses import Address
from ingest.counters import counters
from ingest.models import ApiKey, Block, Project

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


class Blocks:
    """What is blocked, and until when (seconds since 1970)."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._keys: dict[int, float] = {}
        # IP version and bits of the host -> network without them -> until when.
        self._networks: dict[tuple[int, int], dict[int, float]] = {}
        for block in blocks:
            until = block.until.timestamp()
            if block.api_key_id is not None:
                _extend(self._keys, block.api_key_id, until)
                continue
            network = ip_network(block.network)
            host = network.max_prefixlen - network.prefixlen
            of_this_size = self._networks.setdefault((network.version, host), {})
            _extend(of_this_size, int(network.network_address) >> host, until)

    def __bool__(self) -> bool:
        return bool(self._keys or self._networks)

    def of_address(self, address: Address) -> float:
        """Until when the address is blocked; 0 where it isn't and never was."""
        number = int(address)
        return max(
            (
                networks.get(number >> host, 0)
                for (version, host), networks in self._networks.items()
                if version == address.version
            ),
            default=0,
        )

    def of_key(self, key_id: int) -> float:
        """Until when the key is blocked; 0 where it isn't and never was."""
        return self._keys.get(key_id, 0)


def _extend(ends: dict[int, float], of: int, until: float) -> None:
    ends[of] = max(until, ends.get(of, 0))


memory = Memory()
# The blocks, the generation they are of, and how long they may be believed. Every request asks:
# this is a tenth of what `Memory` takes.
_blocks: tuple[Blocks, int, float] = (Blocks(()), 0, 0)


def blocks() -> Blocks:
    """All that holds now, as it was at most a few seconds ago."""
    global _blocks
    known, generation, end = _blocks
    if generation == counters.generation and time.monotonic() < end:
        return known
    # Asked after the generation was read: what changes meanwhile is looked up again.
    generation, end = counters.generation, time.monotonic() + settings.KEY_CACHE_SECONDS
    found = Blocks(Block.objects.active())
    _blocks = (found, generation, end)
    return found


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
