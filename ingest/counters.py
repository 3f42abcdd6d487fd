"""The counters of the rate limits, in Redis: any number of them in one round trip.

Nothing rides on them: while Redis is away nothing is counted, nothing refused, and nobody waits.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import redis
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from telemetry_site.monitoring import instruments
from telemetry_site.redis_client import REDIS_ERRORS, redis_client

logger = logging.getLogger(__name__)

# Raised whenever a project, a key or a block changes: processes that see it forget what they
# remember.
GENERATION = "telemetry:generation"
# The minutes that have violations, and of each one a hash: field -> count.
MINUTES = "telemetry:violations"
# So many callers are told apart in a minute; the rest is counted as one.
CALLERS_A_MINUTE = 2_000
KEEP_SECONDS = 86_400
OTHERS = "others"

# A Redis that freezes costs every thread of the server this long, once: a well one answers in 1 ms.
_PATIENCE_SECONDS = 0.1
# A limit that nobody reaches.
_NEVER_OVER = 2**53
# Between two looks for a Redis that is away.
_PAUSE_SECONDS = 2.0

# Counts, notes what is over its limit, and says what generation it is. KEYS: generation, minutes,
# this minute's violations, the counters. ARGV: minute, then for each counter seconds to live,
# limit, and the field under which a violation is noted.
_COUNT = f"""
local answer = {{tonumber(redis.call('GET', KEYS[1]) or 0)}}
for i = 4, #KEYS do
    local at = 2 + (i - 4) * 3
    local count = redis.call('INCR', KEYS[i])
    if count == 1 then redis.call('EXPIRE', KEYS[i], ARGV[at]) end
    if count > tonumber(ARGV[at + 1]) then
        local field = ARGV[at + 2]
        local known = redis.call('HEXISTS', KEYS[3], field) == 1
        if not known and redis.call('HLEN', KEYS[3]) >= {CALLERS_A_MINUTE} then
            field = string.match(field, '^[^|]*|[^|]*|') .. '{OTHERS}|'
        end
        redis.call('HINCRBY', KEYS[3], field, 1)
        redis.call('EXPIRE', KEYS[3], {KEEP_SECONDS})
        redis.call('SADD', KEYS[2], ARGV[1])
    end
    answer[#answer + 1] = count
end
return answer
"""
_DIGEST = hashlib.sha1(_COUNT.encode(), usedforsecurity=False).hexdigest()


def violations_key(minute: int) -> str:
    """Where the violations of a minute (since 1970) are counted."""
    return f"{MINUTES}:{minute}"


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter that a request moves; `field` is what a violation is noted under."""

    key: str
    seconds: int
    limit: int
    field: str


class CounterKeys(BaseCache):
    """django-ratelimit's cache: notes which counters a request moves, for all to be moved at once.

    Django gives each thread one of its own.
    """

    def __init__(self, *_: Any) -> None:
        super().__init__({})
        self.noted: tuple[str, int] = ("", 0)

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        self.noted = (key, timeout)
        return True


class Counters:
    """Redis, as long as it answers. `generation` is the last one that was seen.

    Once it doesn't, it is asked again by a thread of ours: a request that waited for it would keep
    those waiting that stand behind it in the server's own queue.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._redis = redis_client(_PATIENCE_SECONDS)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._away = False
        self._uncounted = 0
        self._breaker = instruments.breaker_open("rate_limits")

    def count(self, counters: Sequence[Counter]) -> list[int] | None:
        """Move the counters, all at once; where each stands. None while Redis is away."""
        if self._away:
            self._uncounted += 1
            return None
        try:
            self.generation, *counts = self._run(counters)
        except REDIS_ERRORS as error:
            self._lose(error)
            return None
        return counts

    def is_first(self, key: str, seconds: int) -> bool:
        """Whether nothing was counted by this key for so many seconds; True while Redis is away."""
        counts = self.count([Counter(f"telemetry:first:{key}", seconds, _NEVER_OVER, "")])
        return counts is None or counts[0] == 1

    def announce_change(self) -> None:
        """Let all processes forget what they remember. With Redis away they do within seconds."""
        try:
            self._redis.incr(GENERATION)
        except REDIS_ERRORS as error:
            logger.warning("a change is seen in some seconds only: %s", type(error).__name__)

    def _lose(self, error: Exception) -> None:
        """Count nothing until Redis answers again."""
        with self._lock:
            self._uncounted += 1
            if self._away:
                return
            self._away = True
        self._breaker.set(1)
        logger.warning("rate limits are off: Redis does not answer (%s)", type(error).__name__)
        threading.Thread(target=self._look_for_it, name="rate limits", daemon=True).start()

    def _look_for_it(self) -> None:
        while True:
            time.sleep(_PAUSE_SECONDS)
            with suppress(*REDIS_ERRORS):
                self._redis.ping()
                break
        with self._lock:
            self._away, uncounted, self._uncounted = False, self._uncounted, 0
        self._breaker.set(0)
        logger.warning("rate limits are on; %d requests were not counted", uncounted)

    def _run(self, counters: Sequence[Counter]) -> list[int]:
        """The script's answer. Once more where the connection was kept past the server's restart,
        or the server has forgotten the script."""
        minute = int(time.time()) // 60
        words: list[str | int] = [3 + len(counters), GENERATION, MINUTES, violations_key(minute)]
        words += [one.key for one in counters]
        words.append(minute)
        for one in counters:
            words += (one.seconds, one.limit, one.field)
        try:
            return self._ask("EVALSHA", _DIGEST, *words)
        except (redis.exceptions.NoScriptError, redis.exceptions.ConnectionError):
            return self._ask("EVAL", _COUNT, *words)

    def _ask(self, *command: str | int) -> list[int]:
        """On a connection of the thread's own: a pool's client takes twice as long."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._redis.connection_pool.make_connection()
        connection.send_command(*command, check_health=False)
        return cast("list[int]", connection.read_response())


counters = Counters()
