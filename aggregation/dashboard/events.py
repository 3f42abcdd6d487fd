"""Panels of events: over time, and by name and dimension."""

from collections.abc import Callable, Sequence

from rest_framework.exceptions import ValidationError

from aggregation.dashboard.asked import NUMBERS, Asked, before, sentence
from aggregation.dashboard.panels import (
    A_BUCKET,
    COLOURS,
    TIME,
    WITHHELD,
    Line,
    Panel,
    Tile,
    chart,
    drawn,
    percent,
    table,
    told,
    written,
)
from aggregation.definitions import EVENT
from aggregation.models import Dimension
from aggregation.queries.answers import Answer, Group, Number
from aggregation.queries.events import DISTINCT, TOLD

# Groups that are told; of some of them the chart is drawn.
LINES = 10
NOTHING = "No event of this time is counted."


def or_none(ask: Callable[[], Answer]) -> Answer | None:
    """The period before may be refused: it may lie before all that is kept."""
    try:
        return ask()
    except ValidationError:
        return None


def tiles(now: Answer, old: Answer | None) -> list[Tile]:
    """What adds up as it adds up; people and sessions of a bucket, on average."""
    group, was = now.groups[0], old.groups[0] if old else None
    each = f" {A_BUCKET[now.span.level]}, on average" if len(now.span.starts) > 1 else ""
    found = []
    for name in TOLD:
        numbers = _told(group.numbers[name])
        value = _average(group, name) if name in DISTINCT else sum(numbers) if numbers else None
        label = f"{name}{each}" if name in DISTINCT else "events" if name == "count" else name
        found.append(Tile(name, label, value, _change(now, group, was, name)))
    return found


def over_time(asked: Asked, now: Answer, old: Answer | None) -> Panel:
    """All events or those of one name, and their people."""
    event, numbers = asked.given["event"], now.groups[0].numbers
    series = [
        drawn("Events", COLOURS[0], numbers["count"]),
        drawn("People", COLOURS[1], numbers["people"], on="right"),
    ]
    columns = [TIME, "Events", "People", "Sessions", "Bytes"]
    texts = [told(numbers[name], numbers["withheld"]) for name in TOLD]
    if old:
        was = old.groups[0].numbers
        for name, label, colour, on in (
            ("count", "Events", COLOURS[0], "left"),
            ("people", "People", COLOURS[1], "right"),
        ):
            # A day that a time zone left out isn't there.
            padded = _padded(was[name], len(now.span.starts))
            cells = _padded(was["withheld"], len(now.span.starts))
            series.append(drawn(f"{label} before", colour, padded, dashed=True, on=on))
            columns.append(f"{label} before")
            texts.append(told(padded, cells))
    something = any(any(numbers[name]) for name in ("count", "withheld"))
    return Panel(
        name="time",
        title=f"Events and people: {event}" if event else "Events and people",
        file=asked.file("events", **asked.time, event=event),
        chart=chart(now, series) if something else None,
        columns=tuple(columns) if something else (),
        rows=table(now.span, *texts) if something else (),
        empty="" if something else NOTHING,
    )


def by_name(asked: Asked) -> Panel:
    return _by(asked, "by-event", "By name", EVENT)


def by_dimension(asked: Asked, dimension: Dimension) -> Panel:
    of = f" of {dimension.event}" if dimension.event else ""
    title = f"By {dimension.name}{of}"
    return _by(asked, f"by-{dimension.name}", title, dimension.name, dimension.event)


def _by(asked: Asked, name: str, title: str, group_by: str, event: str = "") -> Panel:
    question = {"group_by": group_by, "event": event}
    try:
        now = asked.events(asked.time, **question)
    except ValidationError as refusal:
        return Panel(name, title, refused=sentence(refusal))
    old = or_none(lambda: asked.events(before(now.span), **question))
    series = [
        drawn(group.value or "", colour, group.numbers[asked.number])
        for group, colour in zip(now.groups, COLOURS, strict=False)
    ]
    return Panel(
        name=name,
        title=title,
        file=asked.file("events", **asked.time, **question),
        chart=chart(now, series, stacked=asked.number == "count") if series else None,
        lines=_lines(asked, now, old, narrowing=group_by == EVENT),
        withheld_groups=now.withheld_groups,
        more=len(now.groups) > LINES,
        empty="" if now.groups or now.withheld_groups else NOTHING,
        asking={"number": NUMBERS[asked.number]},
    )


def _lines(asked: Asked, now: Answer, old: Answer | None, *, narrowing: bool) -> list[Line]:
    """The largest groups."""
    was = {group.value: group for group in old.groups} if old else {}
    whole = sum(sum(_told(group.numbers["count"])) for group in now.groups) or 1
    lines = []
    for place, group in enumerate(now.groups[:LINES]):
        value, people = group.value or "", _average(group, "people")
        count = sum(_told(group.numbers["count"]))
        lines.append(
            Line(
                value=value,
                colour=COLOURS[place] if place < len(COLOURS) else "",
                count=written(count),
                share=100 * count / whole,
                people=WITHHELD if people is None else written(people),
                change=_change(now, group, was.get(value), "count"),
                withheld=int(sum(_told(group.numbers["withheld"]))),
                link=asked.link(event=value) if narrowing else "",
            )
        )
    return lines


def _change(now: Answer, group: Group, old: Group | None, name: str) -> str:
    """How much more there is than before: of buckets that are over and told of both periods."""
    if old is None:
        return ""
    over = sum(end <= now.standing.complete_until for end in now.span.edges[1:])
    pairs = [
        (number, was)
        for number, was in zip(group.numbers[name][:over], old.numbers[name], strict=False)
        if number is not None and was is not None
    ]
    whole = sum(was for _, was in pairs)
    return percent(sum(number for number, _ in pairs) / whole - 1) if whole > 0 else ""


def _average(group: Group, name: str) -> float | None:
    """Of the buckets that are told, from the first on that has something."""
    numbers = group.numbers[name]
    first = next((place for place, number in enumerate(numbers) if number != 0), 0)
    told = _told(numbers[first:])
    return round(sum(told) / len(told), 1) if told else None


def _told(numbers: Sequence[Number]) -> list[float]:
    return [number for number in numbers if number is not None]


def _padded(numbers: Sequence[Number], length: int) -> list[Number]:
    return [*numbers, *[None] * length][:length]
