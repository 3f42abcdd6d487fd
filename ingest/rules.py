"""The rate limits as one table of data, and how a rate is written. Pure.

A rate is `10/m`, windows in s, m, h or d, several of them with commas (`30/m,1000/h`), or `0` for
no limit. A project's own rates replace the instance's, rule by rule.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WINDOW = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,4})?([smhd])")


class InvalidRate(ValueError):
    """A rate that can't be read, or one of a rule that there isn't; says which."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit: its name, what it counts by (see `ratelimits.KEYS`), and the instance's rate."""

    name: str
    by: str
    rate: str
    purpose: str


RULES = {
    rule.name: rule
    for rule in (
        Rule("events.user", "user", "10/m", "one user's native batches"),
        Rule("events.ip", "address", "600/m", "native batches from one address"),
        # A key built into every copy of a program must not cap its users.
        Rule("events.key", "key", "0", "native batches with one key"),
        Rule("browser.ip", "address", "100/m", "browser batches from one address"),
        Rule("snapshot.node", "node", "10/m", "one node's snapshots"),
        Rule("metrics.key", "key", "6000/m", "batches of metrics with one key"),
        Rule("otlp.key", "key", "6000/m", "OpenTelemetry requests with one key"),
        Rule("submit.user", "user_or_caller", "30/m,1000/h", "one user's or caller's submissions"),
        Rule("privacy.subject", "user", "10/h,100/d", "requests about one person's data"),
        Rule("privacy.status", "user", "60/m", "one person's looks at their exports"),
        Rule("download.export", "export", "10/m", "downloads of one export"),
        Rule("download.ip", "address", "60/m", "downloads of exports by one address"),
        Rule("query.key", "key", "600/m", "questions with one key"),
        Rule("auth.ip", "address", "20/m", "failed authentications from one address"),
        Rule("login.ip", "address", "20/m", "attempts to log in to the admin from one address"),
    )
}
# Who fails to authenticate has no project, nor has the admin.
PROJECTS_OWN = tuple(name for name in RULES if name not in ("auth.ip", "login.ip"))


@dataclass(frozen=True, slots=True)
class Window:
    """So many requests in so many seconds."""

    quota: int
    seconds: int


def windows(rate: Any) -> tuple[Window, ...]:
    """The windows of a rate; none for `0`. Raises InvalidRate."""
    text = rate.strip() if isinstance(rate, str) else ""
    if text == "0":
        return ()
    parts = [_WINDOW.fullmatch(part.strip()) for part in text.split(",")]
    if not all(parts):
        raise InvalidRate(f"{rate!r} isn't a rate such as 10/m, 30/m,1000/h, or 0 for no limit.")
    return tuple(
        Window(int(part[1]), int(part[2] or 1) * PERIODS[part[3]]) for part in parts if part
    )


def check_overrides(overrides: Any) -> None:
    """Raise InvalidRate unless `overrides` is an object of known rules and their rates."""
    if not isinstance(overrides, Mapping):
        raise InvalidRate('The limits must be an object such as {"events.user": "20/m"}.')
    if unknown := sorted(overrides.keys() - RULES.keys()):
        raise InvalidRate(f"There is no rule {unknown[0]!r}; the rules are {', '.join(RULES)}.")
    if foreign := sorted(overrides.keys() - set(PROJECTS_OWN)):
        raise InvalidRate(
            f"{foreign[0]} is the instance's: who fails to authenticate has no project."
        )
    for rate in overrides.values():
        windows(rate)
