"""What is asked: a query string, read into a question; refused with the parameter that is wrong."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from django.conf import settings
from django.http import QueryDict
from django.utils import timezone
from rest_framework.exceptions import ValidationError

from aggregation import dimensions, retention
from aggregation.definitions import ALL, EVENT
from aggregation.models import Dimension, Kind, Level
from aggregation.queries import pages, spans
from aggregation.queries.pages import InvalidCursor, Page, Position, mark_of
from aggregation.queries.spans import Span

INTERVALS = {"hour": Level.HOUR, "day": Level.DAY, "month": Level.MONTH}
FORMATS = ("json", "csv")
AGGREGATES = ("avg", "min", "max", "sum", "count", "rate", "p50", "p90", "p95", "p99")
# How many buckets are answered where no time is given, and how many at most.
DEFAULT_BUCKETS = {Level.HOUR: 48, Level.DAY: 30, Level.MONTH: 12}
MOST_BUCKETS = {Level.HOUR: 2400, Level.DAY: 1100, Level.MONTH: 600}
# Numbers of an answer: of so many groups, one a bucket.
MOST_NUMBERS = 100_000
# Hours of groups whose distinct people are united for days or months of a zone.
MOST_SKETCHES = 10_000
DEFAULT_GROUPS = 100
MOST_GROUPS = 1000
TEXT_LENGTH = 200
# Nothing was sent before.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

_LENGTHS = {Level.HOUR: spans.HOUR, Level.DAY: timedelta(days=1), Level.MONTH: timedelta(days=28)}

RANGE = ("from", "to", "tz", "format")
PAGE = ("limit", "cursor")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class EventQuestion:
    """Events, people and sessions over time: of all events or of one name, and by what."""

    project_id: int
    span: Span
    page: Page
    mark: int
    event: str | None = None
    group_by: str = ALL
    # Of the dimension they are grouped by: the one event it is of.
    of_event: str | None = None


@dataclass(frozen=True)
class MetricQuestion:
    """A metric over time: which series of its name, by what they are merged, and into which
    number."""

    project_id: int
    span: Span
    page: Page
    mark: int
    name: str
    aggregate: str
    tags: dict[str, str]
    node: str | None
    group_by: str


def events(query: QueryDict, project_id: int) -> EventQuestion:
    """The question of `/v1/query/events`. Raises ValidationError."""
    given = Given(query, (*RANGE, *PAGE, "interval", "event", "group_by"))
    event, group_by = given.text("event") or None, given.text("group_by")
    of_event = _event_of(group_by, event, project_id) if group_by not in {ALL, EVENT} else None
    if event and group_by == EVENT:
        refuse("group_by", "is of no use with event: there would be one group. Leave one out")
    span = given.span(Kind.EVENTS)
    mark = mark_of(project_id, span, event, group_by)
    if span.made_of == span.level:
        page = given.page(mark, len(span.starts), MOST_NUMBERS)
    else:
        page = given.page(mark, (span.end - span.start) // spans.HOUR, MOST_SKETCHES)
    return EventQuestion(project_id, span, page, mark, event, group_by, of_event)


def daily(query: QueryDict, project_id: int) -> EventQuestion:
    """The question of `/v1/query/daily`. Raises ValidationError."""
    span = Given(query, RANGE).span(Kind.EVENTS, Level.DAY)
    return EventQuestion(project_id, span, Page(1), mark_of())


def metrics(query: QueryDict, project_id: int) -> MetricQuestion:
    """The question of `/v1/query/metrics`. Raises ValidationError."""
    own = ("interval", "name", "agg", "tags", "node", "group_by")
    given = Given(query, (*RANGE, *PAGE, *own))
    name = given.text("name")
    if not name:
        refuse("name", "must name a metric", "missing_field")
    aggregate = given.one_of("agg", AGGREGATES, "avg")
    group_by = given.text("group_by")
    span, tags, node = given.span(Kind.POINTS), given.tags(), given.text("node") or None
    _check_tags("group_by", [group_by])
    _check_tags("tags", tags)
    mark = mark_of(project_id, span, name, aggregate, sorted(tags.items()), node, group_by)
    page = given.page(mark, len(span.starts), MOST_NUMBERS)
    return MetricQuestion(project_id, span, page, mark, name, aggregate, tags, node, group_by)


def _check_tags(field: str, names: Iterable[str]) -> None:
    """Refuse tags that tell persons apart: no count has them."""
    for name in names:
        if word := dimensions.telling(name):
            refuse(
                field,
                f"must not name a tag that by its name ({word}) tells persons, devices or sessions "
                "apart: measurements aren't counted by these. A machine is named by its node",
            )


def nodes(query: QueryDict) -> None:
    """Check what is given with `/v1/query/nodes`. Raises ValidationError."""
    Given(query, ("format",))


def answers_csv(query: QueryDict) -> bool:
    """Whether CSV is asked for, and not JSON. Raises ValidationError."""
    return Given(query, query.keys()).one_of("format", FORMATS, "json") == "csv"


def _event_of(group_by: str, event: str | None, project_id: int) -> str | None:
    """Of which event a dimension is; refuses one that isn't declared so."""
    declared = {row.name: row.event for row in Dimension.objects.filter(project_id=project_id)}
    if group_by not in declared:
        names = ", ".join([EVENT, *sorted(declared)])
        refuse("group_by", f"must be one of those that the project declares: {names}")
    of = declared[group_by]
    if of and event != of:
        refuse("event", f"must be {of}: {group_by} is declared for these events alone")
    if event and not of:
        refuse(
            "event",
            f"must be absent: {group_by} is declared for all events. "
            "Declare a dimension for this event to group it alone",
        )
    return of or None


class Given:
    """The parameters of a request; refuses those that an endpoint hasn't."""

    def __init__(self, query: QueryDict, known: Collection[str]) -> None:
        self._query = query
        if unknown := query.keys() - set(known):
            field = min(unknown)
            name = field if re.fullmatch(r"\w{1,40}", field) else "(unreadable)"
            refuse(
                name, f"is no parameter here. There are: {', '.join(known)}", "unknown_parameter"
            )

    def text(self, name: str) -> str:
        """A text; empty where it isn't given."""
        return _checked(name, self._query.get(name, ""))

    def one_of(self, name: str, values: Collection[str], default: str) -> str:
        """One of some words."""
        text = self._query.get(name, default)
        if text not in values:
            *others, last = values
            refuse(name, f"must be {', '.join(others)} or {last}")
        return text

    def tags(self) -> dict[str, str]:
        """`route:/upload,region:eu`, also as several parameters."""
        found = {}
        texts = [_checked("tags", text) for text in self._query.getlist("tags")]
        for part in filter(None, ",".join(texts).split(",")):
            name, colon, value = part.partition(":")
            if not (name and colon):
                refuse("tags", "must be written as name:value, several with commas between")
            found[name] = value
        return found

    def page(self, mark: int, numbers: int, most_numbers: int) -> Page:
        """The page of groups, each of so many numbers, of which there mustn't be too many."""
        most = most_numbers // numbers
        limit = self._limit() or min(DEFAULT_GROUPS, most)
        if limit > most:
            refuse(
                "limit",
                f"must be at most {most} here: a group takes {numbers} numbers, and an answer "
                f"{most_numbers} at most. Ask for fewer groups, less time or a longer interval",
                "too_costly",
            )
        return Page(limit, self._cursor(mark))

    def _limit(self) -> int | None:
        text = self._query.get("limit")
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_GROUPS:
            refuse("limit", f"must be a number from 1 to {MOST_GROUPS}", "out_of_range")
        return int(text)

    def _cursor(self, mark: int) -> Position | None:
        text = self._query.get("cursor")
        if not text:
            return None
        try:
            position = pages.read(text)
        except InvalidCursor:
            refuse("cursor", "must be the `next` of an answer")
        if position.question != mark:
            refuse(
                "cursor",
                "must go with the question that it is of: ask with the same parameters, "
                "and from and to as answered",
            )
        return position

    def span(self, kind: Kind, level: Level | None = None) -> Span:
        """The whole buckets that are asked for."""
        if level is None:
            level = INTERVALS[self.one_of("interval", INTERVALS, "day")]
        zone, now = self._zone, timezone.now()
        end_of_now = spans.behind(level, zone, spans.floor(level, zone, now))
        end = min(self._moment("to") or end_of_now, end_of_now)
        if end < EARLIEST:
            refuse("to", f"must not lie before {EARLIEST:%Y-%m-%d}", "too_old")
        start = self._moment("from") or self._default_start(kind, level, end)
        if start >= end:
            refuse("from", "must lie before to, and before now", "invalid_range")
        self._check_kept(kind, level, start)
        self._check_length(level, start, end)
        try:
            span = Span.around(level, zone, start, end)
        except spans.BrokenHours:
            refuse(
                "tz",
                "must be whole hours off UTC all the time that is asked for: buckets are made of "
                "UTC's hours. Ask in UTC or in a zone near it",
            )
        if span.made_of != level:
            self._check_kept(kind, span.made_of, span.start)
            self._check_length(span.made_of, span.start, span.end)
        return span

    def _default_start(self, kind: Kind, level: Level, end: datetime) -> datetime:
        """Some buckets before the end, of what there still is."""
        zone = self._zone
        start = spans.back(level, zone, end, DEFAULT_BUCKETS[level])
        kept = _first_kept(kind, level if zone.key == "UTC" else Level.HOUR)
        if start < kept:
            start = spans.floor(level, zone, kept)
            start = start if start >= kept else spans.behind(level, zone, start)
        return min(start, end - spans.HOUR)

    def _check_kept(self, kind: Kind, level: Level, start: datetime) -> None:
        first = _first_kept(kind, level)
        if start < first:
            words = {Level.HOUR: "Hours, and the days of time zones", Level.DAY: "Days"}
            refuse(
                "from",
                f"must not lie before {first:%Y-%m-%d}. {words.get(level, 'Months')} before that "
                "aren't there any more: ask for less time or, in UTC, for a longer interval",
                "too_old",
            )

    def _check_length(self, level: Level, start: datetime, end: datetime) -> None:
        if (end - start) / _LENGTHS[level] > MOST_BUCKETS[level]:
            refuse(
                "from",
                f"must lie closer to `to`: at most {MOST_BUCKETS[level]} {level.label.lower()}s "
                "are answered at once. Ask for less time, or for a longer interval",
                "too_costly",
            )

    @cached_property
    def _zone(self) -> ZoneInfo:
        return zone(self.text("tz"))

    def _moment(self, name: str) -> datetime | None:
        """A time, or the first moment of a date, of the zone where none is named."""
        text = self._query.get(name)
        return moment(name, text, self._zone) if text else None


def _checked(name: str, text: str) -> str:
    if "\0" in text:
        refuse(name, "must not contain NUL", "invalid_character")
    if len(text) > TEXT_LENGTH:
        refuse(name, f"must be at most {TEXT_LENGTH} characters long", "too_long")
    return text


def zone(name: str) -> ZoneInfo:
    """A time zone, UTC where none is named. Raises ValidationError."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        refuse("tz", "must be a time zone of the IANA database, such as Europe/Vienna")


def moment(name: str, text: str, zone: ZoneInfo) -> datetime:
    """An RFC 3339 time or a date, of `zone` where it names no offset. Raises ValidationError."""
    if _DATE.fullmatch(text):
        text += "T00:00:00"
    try:
        # In a query string a plus sign that isn't escaped arrives as a blank.
        found = msgspec.convert(text.replace(" ", "+"), datetime)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        refuse(
            name,
            "must be a time such as 2026-11-20T10:30:00Z (RFC 3339), or a date",
            "invalid_timestamp",
        )


def _first_kept(kind: Kind, level: Level) -> datetime:
    """The first moment of the buckets that retention leaves."""
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    if level == Level.MONTH:
        return EARLIEST
    keep = retention.HOURS[kind].keep if level == Level.HOUR else settings.DAY_RETENTION_DAYS
    return max(today - timedelta(days=keep), EARLIEST)


def refuse(field: str, message: str, code: str = "invalid_value") -> NoReturn:
    """Refuse a parameter: raises ValidationError."""
    raise ValidationError({field: [message]}, code=code)
