"""Checking the rules of `rules` for one request: what applies, what is left, who is refused.

django-ratelimit gives the windows and the counters' names; the counting itself is one round trip
for all rules (`counters`). Keys of counters and violations hold keyed hashes only.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import cast

from django.conf import settings
from django.core.cache import caches
from django.http import HttpRequest
from django_ratelimit.core import get_usage
from rest_framework.exceptions import APIException, Throttled

from ingest.addresses import client_address, coarse_network
from ingest.counters import Counter, CounterKeys, counters
from ingest.rules import RULES, Window, windows
from privacy.subjects import Pseudonyms
from telemetry_site.monitoring import instruments


@dataclass
class Caller:
    """Whom a request is from, as far as it is known; `decoded` once the body was read."""

    request: HttpRequest
    project_id: int | None = None
    key_id: int | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    node: str | None = None
    export: str | None = None
    decoded: bool = False

    @cached_property
    def address(self) -> str:
        return client_address(self.request)

    @cached_property
    def network(self) -> str:
        """As much of the address as may be written down."""
        return coarse_network(self.request)


@dataclass(frozen=True, slots=True)
class Usage:
    """Where one window of a rule stands; it opens again in `reset` seconds, never earlier."""

    rule: str
    window: Window
    count: int
    reset: int

    @property
    def left(self) -> int:
        return max(0, self.window.quota - self.count)


class RateLimited(Throttled):
    """429: the rule `policy` is used up for `wait` seconds."""

    def __init__(self, usage: Usage, headers: Mapping[str, str]) -> None:
        window = usage.window
        APIException.__init__(
            self,
            f"{window.quota} requests in {window.seconds} s are allowed by the limit "
            f"{usage.rule}. Try again in {usage.reset} s.",
            "rate_limited",
        )
        self.policy = usage.rule
        self.wait = usage.reset
        self.headers = headers


def _address(caller: Caller) -> str | None:
    return caller.address or None


def key_of(key_id: int) -> str:
    """What a rule counts by that counts by key."""
    return f"key {key_id}"


def _key(caller: Caller) -> str | None:
    return key_of(caller.key_id) if caller.key_id is not None else None


def _user(caller: Caller) -> str | None:
    if caller.user is None:
        return None
    # By the pseudonym, so that an erasure, which knows no other name, finds what is counted.
    return user_of(Pseudonyms(settings.PEPPER, caller.project_id or 0).subject(caller.user))


def user_of(subject: bytes) -> str:
    """What a rule counts by that counts by user."""
    return f"user {subject.hex()}"


def _node(caller: Caller) -> str | None:
    return f"node {caller.node}" if caller.node is not None else None


def _export(caller: Caller) -> str | None:
    return f"export {caller.export}" if caller.export is not None else None


def _user_or_caller(caller: Caller) -> str | None:
    if caller.user is not None or not caller.decoded:
        return _user(caller)
    return f"{_key(caller)} at {_address(caller)}"


# What a rule may count by; None where the request has no such thing (yet): not applied.
KEYS: Mapping[str, Callable[[Caller], str | None]] = {
    "address": _address,
    "key": _key,
    "user": _user,
    "node": _node,
    "export": _export,
    "user_or_caller": _user_or_caller,
}


class Limiter:
    """The limits of one request. `check` may be called again once more is known of the caller."""

    def __init__(self, caller: Caller, rules: Iterable[str]) -> None:
        self.caller = caller
        self._rules = list(rules)
        self._usages: list[Usage] = []

    def check(self) -> None:
        """Count the request by every rule that applies now and didn't before.

        Raises RateLimited, with the window that takes longest to open again.
        """
        keys = {name: key for name in self._rules if (key := KEYS[RULES[name].by](self.caller))}
        self._rules = [name for name in self._rules if name not in keys]
        asked = [
            (name, window, *self._counter(name, key, window))
            for name, key in keys.items()
            for window in self._windows(name)
        ]
        if not asked or (counts := counters.count([counter for *_, counter, _ in asked])) is None:
            return
        usages = [
            Usage(name, window, count, reset)
            for (name, window, _, reset), count in zip(asked, counts, strict=True)
        ]
        self._usages += usages
        if over := [usage for usage in usages if usage.count > usage.window.quota]:
            last = max(over, key=lambda usage: usage.reset)
            instruments.rate_limited(last.rule).inc()
            raise RateLimited(last, self.headers)

    @property
    def headers(self) -> dict[str, str]:
        """What the IETF's draft wants every limited answer to say; nothing where none counted."""
        if not self._usages:
            return {}
        policies, states = [], []
        for usage in self._usages:
            window = usage.window
            policies.append(f'"{usage.rule}";q={window.quota};w={window.seconds}')
            states.append(f'"{usage.rule}";r={usage.left};t={usage.reset}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}

    def _windows(self, name: str) -> tuple[Window, ...]:
        return _parsed(self.caller.overrides.get(name) or settings.RATE_LIMITS[name])

    def _counter(self, name: str, key: str, window: Window) -> tuple[Counter, int]:
        """The counter of a window, and the seconds until it starts anew."""
        caller = self.caller
        hashed = hashed_caller(name, caller.project_id, key)
        usage = get_usage(
            caller.request,
            group=name,
            key=lambda *_: hashed,
            rate=(window.quota, window.seconds),
            increment=True,
        )
        counter, seconds = cast("CounterKeys", caches["ratelimit"]).noted
        field = violation_field(caller, name, hashed)
        # At a time left of 0 the window is still closed.
        return Counter(counter, seconds, window.quota, field), usage["time_left"] + 1


_parsed = cache(windows)


def hashed_caller(rule: str, project_id: int | None, key: str) -> str:
    """What stands for a caller where its counters and violations are kept."""
    text = f"{rule} {project_id} {key}"
    return hmac.digest(settings.PEPPER, b"limit:" + text.encode(), "sha256")[:8].hex()


def violation_field(caller: Caller, rule: str, hashed: str) -> str:
    """What a violation is noted under (see `violations`)."""
    return f"{caller.project_id or ''}|{rule}|{hashed}|{caller.network}"
