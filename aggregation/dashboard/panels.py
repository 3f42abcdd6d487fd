"""The parts of a dashboard, as they are shown. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aggregation.definitions import NONE, OTHER
from aggregation.models import Level
from aggregation.queries.answers import Answer, Number
from aggregation.queries.spans import Span

# What is drawn together, each in its own, told apart in light and dark.
COLOURS = ("#7c3aed", "#0891b2", "#65a30d", "#ea580c", "#db2777", "#ca8a04")
TIME = "Time"
WITHHELD, UNKNOWN = "withheld", "not known"
# One of them in words.
A_BUCKET = {Level.HOUR: "an hour", Level.DAY: "a day", Level.MONTH: "a month"}
# Buckets below a chart, and in a table.
_DRAWN = {Level.HOUR: "%d %b, %H:%M", Level.DAY: "%d %b", Level.MONTH: "%b %Y"}
_WRITTEN = {Level.HOUR: "%Y-%m-%d %H:%M", Level.DAY: "%Y-%m-%d", Level.MONTH: "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the whole time; None where all of it is withheld. `change` is against the
    period before, empty where there is nothing to compare."""

    name: str
    label: str
    value: float | None
    change: str

    @property
    def text(self) -> str:
        return WITHHELD if self.value is None else written(self.value)


@dataclass(frozen=True, slots=True)
class Line:
    """What is told of a group, over the whole time; `share` is in percent."""

    value: str
    colour: str
    count: str
    share: float
    people: str
    change: str
    withheld: int
    link: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart, lines of groups and a table, or the sentence that says why there are none.

    `file` is what its CSV is asked with, `asking` what may be chosen of it.
    """

    name: str
    title: str
    file: str = ""
    chart: Mapping[str, Any] | None = None
    lines: Sequence[Line] = ()
    columns: tuple[str, ...] = ()
    rows: Sequence[Sequence[Any]] = ()
    withheld_groups: int = 0
    more: bool = False
    empty: str = ""
    refused: str = ""
    asking: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chart_id(self) -> str:
        """The element that has what the script draws."""
        return f"{self.name}-chart"

    @property
    def is_over_time(self) -> bool:
        """Whether its table says what its chart shows, and is folded up below it."""
        return self.chart is not None and TIME in self.columns

    @property
    def has_other(self) -> bool:
        return any(line.value == OTHER for line in self.lines)

    @property
    def has_none(self) -> bool:
        return any(line.value == NONE for line in self.lines)


def drawn(
    label: str, colour: str, numbers: Sequence[Number], *, dashed: bool = False, on: str = "left",
    bars: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One line of a chart, on the scale at its left or right."""
    return {
        "label": label,
        "colour": colour,
        "numbers": [*numbers],
        "dashed": dashed,
        "on": on,
        "bars": bars,
    }


def chart(
    answer: Answer, series: Sequence[Mapping[str, Any]], *, stacked: bool = False
) -> dict[str, Any]:
    """What the page's script draws: a place a bucket, and which of them have something withheld."""
    span = answer.span
    withheld = zip(*(group.numbers["withheld"] for group in answer.groups), strict=True)
    return {
        "labels": [f"{span.local(start):{_DRAWN[span.level]}}" for start in span.starts],
        "series": series,
        "stacked": stacked,
        "withheld": [place for place, cells in enumerate(withheld) if any(cells)],
    }


def table(span: Span, *columns: Sequence[str]) -> list[list[str]]:
    """A row a bucket, the latest first."""
    times = [f"{span.local(start):{_WRITTEN[span.level]}}" for start in span.starts]
    return [list(row) for row in zip(times, *columns, strict=True)][::-1]


def told(numbers: Sequence[Number], withheld: Sequence[Number]) -> list[str]:
    """Numbers as they are written: what is withheld is no number, and no 0."""
    return [
        written(number) if number is not None else WITHHELD if cells else UNKNOWN
        for number, cells in zip(numbers, withheld, strict=True)
    ]


def written(number: float) -> str:
    """A number for a person."""
    if float(number).is_integer() and abs(number) < 1e15:
        return f"{number:,.0f}"
    return f"{number:,.1f}" if 1000 <= abs(number) < 1e15 else f"{number:.4g}"


def percent(change: float) -> str:
    """A change for a person: +12 %."""
    return f"{change:+,.0%}".replace("%", "\N{NO-BREAK SPACE}%").replace("-", "−")  # noqa: RUF001
