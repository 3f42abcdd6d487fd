"""What a dashboard is asked for: its address, read into questions and links."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from urllib.parse import urlencode

from django.conf import settings
from django.http import QueryDict
from django.utils import timezone
from rest_framework.exceptions import ValidationError

from aggregation.models import Level
from aggregation.queries import events, metrics, parameters, spans
from aggregation.queries.answers import Answer
from aggregation.queries.parameters import refuse
from aggregation.queries.spans import Span

NAMES = ("range", "from", "to", "tz", "interval", "event", "number", "metric", "by", "agg")
# Which of a group's numbers are drawn.
NUMBERS = {"count": "Events", "people": "People"}
# The most time that hours, and days, are chosen for.
_MOST_HOURS, _MOST_DAYS = timedelta(days=3), timedelta(days=120)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Range:
    """So many buckets until now."""

    words: str
    level: Level
    buckets: int


RANGES = {
    "24h": Range("24 hours", Level.HOUR, 24),
    "7d": Range("7 days", Level.DAY, 7),
    "30d": Range("30 days", Level.DAY, 30),
    "90d": Range("90 days", Level.DAY, 90),
    "12m": Range("12 months", Level.MONTH, 12),
}
DEFAULT_RANGE = "30d"


@dataclass(frozen=True)
class Asked:
    """`given` is what the address says; what it doesn't say is empty."""

    project_id: int
    given: Mapping[str, str]

    @classmethod
    def of(cls, project_id: int, query: QueryDict) -> "Asked":
        return cls(project_id, {name: query.get(name, "").strip() for name in NAMES})

    @property
    def range(self) -> str:
        """The name of a range, empty where there are times instead."""
        if self.given["from"] or self.given["to"]:
            return ""
        return self.given["range"] or DEFAULT_RANGE

    @property
    def number(self) -> str:
        """Which number of groups is drawn. Raises ValidationError."""
        number = self.given["number"] or next(iter(NUMBERS))
        if number not in NUMBERS:
            refuse("number", f"must be {' or '.join(NUMBERS)}")
        return number

    @cached_property
    def time(self) -> dict[str, str]:
        """from, to, tz and interval, as `queries` take them. Raises ValidationError."""
        if self.range:
            return self._until_now()
        start, end, tz = self.given["from"], _inclusive(self.given["to"]), self.given["tz"]
        interval = self.given["interval"] or _interval(*self._moments(start, end))
        return {"from": start, "to": end, "tz": tz, "interval": interval}

    def _until_now(self) -> dict[str, str]:
        chosen, zone = RANGES.get(self.range), parameters.zone(self.given["tz"])
        if chosen is None:
            *others, last = RANGES
            refuse("range", f"must be {', '.join(others)} or {last}")
        end = spans.behind(chosen.level, zone, spans.floor(chosen.level, zone, timezone.now()))
        return {
            "from": _text(spans.back(chosen.level, zone, end, chosen.buckets)),
            "tz": self.given["tz"],
            "interval": self.given["interval"] or chosen.level.label.lower(),
        }

    def _moments(self, start: str, end: str) -> tuple[datetime, datetime]:
        zone, now = parameters.zone(self.given["tz"]), timezone.now()
        until = parameters.moment("to", end, zone) if end else now
        since = parameters.moment("from", start, zone) if start else until - _MOST_DAYS
        return since, min(until, now)

    # --- questions ---

    def events(self, time: Mapping[str, str], **more: str) -> Answer:
        """Events of a time. Raises ValidationError."""
        return events.over_time(parameters.events(_query(time, more), self.project_id))

    def measurements(self, time: Mapping[str, str], **more: str) -> Answer:
        """Measurements of a time. Raises ValidationError."""
        return metrics.over_time(parameters.metrics(_query(time, more), self.project_id))

    # --- links ---

    def link(self, **other: str) -> str:
        """The dashboard, asked something else."""
        return f"?{urlencode(_given({'project': str(self.project_id), **self.given}, other))}"

    def file(self, what: str, **more: str) -> str:
        """What the file of a panel is asked with."""
        return urlencode(_given({"project": str(self.project_id), "what": what}, more))


def before(span: Span) -> dict[str, str]:
    """As many buckets just before."""
    return {
        "from": _text(spans.back(span.level, span.zone, span.start, len(span.starts))),
        "to": _text(span.start),
        "tz": span.zone.key,
        "interval": span.level.label.lower(),
    }


def sentence(refusal: ValidationError) -> str:
    """A refusal in words: the parameter, and what is wrong with it."""
    return " ".join(
        f"“{name}” {text}."
        for name, texts in dict(refusal.detail).items()  # type: ignore[arg-type]
        for text in texts
    )


def _given(*texts: Mapping[str, str]) -> dict[str, str]:
    """All that is given; the later text of a name holds, and an empty one is none."""
    merged = {name: text for of in texts for name, text in of.items()}
    return {name: text for name, text in merged.items() if text}


def _query(*texts: Mapping[str, str]) -> QueryDict:
    query = QueryDict(mutable=True)
    query.update(_given(*texts))
    return query


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _inclusive(end: str) -> str:
    """A day means all of it; what is no day is left to `parameters`."""
    try:
        return str(date.fromisoformat(end) + timedelta(days=1)) if _DATE.fullmatch(end) else end
    except (ValueError, OverflowError):
        return end


def _interval(start: datetime, end: datetime) -> str:
    """The shortest that there is of a time and that isn't too much of it."""
    age, length = timezone.now() - start, end - start
    if length <= _MOST_HOURS and age < timedelta(days=settings.EVENT_RETENTION_DAYS):
        return "hour"
    if length <= _MOST_DAYS and age < timedelta(days=settings.DAY_RETENTION_DAYS):
        return "day"
    return "month"
