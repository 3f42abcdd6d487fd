"""What the violations on record add up to: over time, by rule and project, by caller.

The minutes tell callers apart and may be very many; the hours do not (`violations`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F, Max, Min, QuerySet, Sum
from django.utils import timezone

from ingest import blocks
from ingest.models import ApiKey, RateLimitViolation, ViolationSum
from ingest.ratelimits import hashed_caller, key_of
from ingest.rules import RULES

# Of the minutes so many rows are looked through, the latest: a fifth of a second.
LOOKED_THROUGH = 100_000
# Keys that a caller may turn out to be.
_KEYS = 1_000
_MINUTE = timedelta(minutes=1)
# Rules that count by key, and what a block of a key is noted as.
_BY_KEY = frozenset({blocks.RULE, *(rule.name for rule in RULES.values() if rule.by == "key")})


@dataclass(frozen=True, slots=True)
class Span:
    """How far back is looked, and how much of that is a bar."""

    words: str
    length: timedelta
    bar: timedelta


SPANS = {
    "hour": Span("last hour", timedelta(hours=1), _MINUTE),
    "day": Span("last day", timedelta(days=1), timedelta(hours=1)),
    "week": Span("last 7 days", timedelta(days=7), timedelta(hours=6)),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Which violations. `bar` is the beginning of one of the span's; `project` 0 is none known."""

    span: str = "hour"
    project: int | None = None
    rule: str = ""
    caller: str = ""
    bar: datetime | None = None

    @property
    def bars(self) -> list[datetime]:
        """Where each bar begins, up to the one that is now."""
        span = SPANS[self.span]
        seconds = int(span.bar.total_seconds())
        last = datetime.fromtimestamp(timezone.now().timestamp() // seconds * seconds, UTC)
        number = span.length // span.bar
        return [last - span.bar * back for back in range(number - 1, -1, -1)]

    @property
    def within(self) -> tuple[datetime, datetime]:
        """From when until when: the bar, or the whole span."""
        if self.bar is not None:
            return self.bar, self.bar + SPANS[self.span].bar
        bars = self.bars
        return bars[0], bars[-1] + SPANS[self.span].bar

    @property
    def of(self) -> dict[str, Any]:
        """The project and the rule, as a query wants them."""
        found: dict[str, Any] = {"rule": self.rule} if self.rule else {}
        if self.project == 0:
            found["project"] = None
        elif self.project is not None:
            found["project"] = self.project
        return found


def over_time(asked: Asked) -> dict[str, list[int]]:
    """Rule -> how many were refused in each bar of the span, whichever of them is chosen."""
    bars = asked.bars
    width = SPANS[asked.span].bar
    counts: dict[str, list[int]] = {}
    rows = _sums(asked, bars[0], bars[-1] + width)
    for rule, at, count in rows.values_list("rule", "at").annotate(total=Sum("count")):
        counts.setdefault(rule, [0] * len(bars))[(at - bars[0]) // width] += count
    return dict(sorted(counts.items(), key=lambda item: -sum(item[1])))


def by_rule_and_project(asked: Asked, most: int) -> list[tuple[str, int | None, int]]:
    """Rule, project and how many were refused; the most first."""
    rows = _sums(asked, *asked.within).values_list("rule", "project")
    return list(rows.annotate(total=Sum("count")).order_by("-total", "rule", "project")[:most])


def _sums(asked: Asked, start: datetime, end: datetime) -> QuerySet[Any]:
    """What is counted, each row with its time as `at`. An hour is told by its minutes."""
    if asked.span == "hour":
        # Index: violation_once_a_minute; of an hour 120,000 rows at most.
        minutes = RateLimitViolation.objects.filter(minute__gte=start, minute__lt=end, **asked.of)
        return minutes.annotate(at=F("minute")).order_by()
    # Index: violationsum_bucket.
    hours = ViolationSum.objects.filter(hour__gte=start, hour__lt=end, **asked.of)
    return hours.annotate(at=F("hour")).order_by()


class Latest:
    """The violations asked for that tell callers apart: the latest of them, in bounded time."""

    def __init__(self, asked: Asked) -> None:
        start, end = asked.within
        # Index: violation_once_a_minute, read backwards.
        minutes = RateLimitViolation.objects.filter(minute__gte=start, minute__lt=end)
        past = minutes.order_by("-minute").values_list("minute", flat=True)
        beyond = list(past[LOOKED_THROUGH : LOOKED_THROUGH + 1])
        # Since when, where not everything is looked through.
        self.since = beyond[0] + _MINUTE if beyond else None
        of = asked.of | ({"key": asked.caller} if asked.caller else {})
        self._rows = minutes.filter(minute__gte=self.since or start, **of)

    def rows(self, most: int) -> list[RateLimitViolation]:
        """The rows themselves, the latest first."""
        return list(self._rows.order_by("-minute", "-count", "pk")[:most])

    def callers(self, most: int) -> list[dict[str, Any]]:
        """Who was refused most: project, rule, key, in all, last; two networks where it moved."""
        callers: Any = self._rows.values("project_id", "rule", "key").annotate(
            total=Sum("count"),
            last=Max("minute"),
            last_network=Max("network"),
            first_network=Min("network"),
            row=Max("pk"),
        )
        return list(callers.order_by("-total", "-last", "key")[:most])


def keys_of(callers: Iterable[tuple[str, int | None]]) -> dict[str, ApiKey]:
    """Callers' keyed hashes -> API key, for these rules and projects where callers are keys."""
    wanted = {(rule, project) for rule, project in callers if rule in _BY_KEY and project}
    keys = ApiKey.objects.filter(project__in={project for _, project in wanted})
    return {
        hashed_caller(rule, project, key_of(key.pk)): key
        for key in keys.order_by("-pk")[:_KEYS]
        for rule, project in wanted
        if key.project_id == project
    }
