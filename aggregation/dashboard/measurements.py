"""Panels of measurements: a metric over time, and the nodes."""

from typing import Any

from rest_framework.exceptions import ValidationError

from aggregation.dashboard.asked import Asked, before, sentence
from aggregation.dashboard.events import or_none
from aggregation.dashboard.panels import COLOURS, TIME, Panel, chart, drawn, table, told, written
from aggregation.queries import nodes
from aggregation.queries.answers import Group
from aggregation.queries.names import Names
from aggregation.queries.spans import Span

# What is drawn of a metric, by its kind; the first is compared with the period before.
FIGURES = {
    "histogram": ("p95", "p50", "p99", "avg"),
    "gauge": ("avg", "p50", "p95", "p99"),
    "summary": ("avg", "min", "max"),
    "counter": ("sum",),
    "meter": ("avg",),
}
_GREY = "#94a3b8"


def of_a_metric(asked: Asked, span: Span) -> Panel:
    """The figures of a metric, or one of them by a tag or its nodes."""
    asking: dict[str, Any] = {}
    try:
        names = Names.of(asked.project_id, span)
        found = names.metrics()
        if not (name := asked.given["metric"] or _first(found)):
            return Panel("metric", "Metrics", empty="No measurement of this time is counted.")
        figures = FIGURES[_kind(found.get(name, []))]
        asking |= {
            "metric": name,
            "metrics": sorted({*found, name}),
            "by": asked.given["by"],
            "groupings": names.groupings(name) if name in found else [],
            "figure": asked.given["agg"] or figures[0],
            "figures": [*figures, "count"],
        }
        return _by(asked, asking) if asking["by"] else _figures(asked, asking)
    except ValidationError as refusal:
        return Panel("metric", "Metrics", refused=sentence(refusal), asking=asking)


def of_nodes(asked: Asked) -> Panel:
    """The latest snapshot of each node."""
    columns, *rows = nodes.latest(asked.project_id).table
    return Panel(
        name="nodes",
        title="Nodes",
        file=asked.file("nodes"),
        columns=("Node", "Time (UTC)", *columns[2:]) if rows else (),
        rows=[
            [node, f"{moment[:10]} {moment[11:19]}", *(_cell(number) for number in numbers)]
            for node, moment, *numbers in rows
        ],
        empty="" if rows else "No node has sent a snapshot in the last month.",
    )


def _first(found: dict[str, list[str]]) -> str:
    """What is shown unless something else is chosen: what has quantiles before what has none."""
    return min(found, key=lambda name: ([*FIGURES].index(_kind(found[name])), name), default="")


def _kind(kinds: list[str]) -> str:
    return next((kind for kind in FIGURES if kind in kinds), "gauge")


def _figures(asked: Asked, asking: dict[str, Any]) -> Panel:
    name = asking["metric"]
    answers = {
        figure: asked.measurements(asked.time, name=name, agg=figure)
        for figure in asking["figures"]
    }
    first, *_ = answers
    now = answers[first]
    old = or_none(lambda: asked.measurements(before(now.span), name=name, agg=first))
    groups = {figure: answer.groups[0] for figure, answer in answers.items()}
    counts = groups["count"].numbers["values"]
    if not any(counts) and not any(groups["count"].numbers["withheld"]):
        empty = f"No measurement of {name} is counted in this time."
        return Panel("metric", "Metrics", asking=asking, empty=empty)
    series = [
        drawn(figure, colour, groups[figure].numbers["values"])
        for figure, colour in zip(asking["figures"][:-1], COLOURS, strict=False)
    ]
    if old:
        was = old.groups[0].numbers["values"][: len(counts)]
        series.append(drawn(f"{first} before", COLOURS[0], was, dashed=True))
    series.append(drawn("Measurements", _GREY, counts, on="right", bars=True))
    return Panel(
        name="metric",
        title="Metrics",
        file=asked.file("metrics", **asked.time, name=name, agg=first),
        chart=chart(now, series),
        columns=(TIME, *groups),
        rows=table(now.span, *map(_texts, groups.values())),
        asking=asking,
    )


def _by(asked: Asked, asking: dict[str, Any]) -> Panel:
    """One figure by a tag or node."""
    question = {
        "name": asking["metric"],
        "agg": asking["figure"],
        "group_by": asking["by"],
    }
    now = asked.measurements(asked.time, **question)
    series = [
        drawn(group.value or "", colour, group.numbers["values"])
        for group, colour in zip(now.groups, COLOURS, strict=False)
    ]
    empty = f"No measurement of {asking['metric']} is counted in this time."
    return Panel(
        name="metric",
        title="Metrics",
        file=asked.file("metrics", **asked.time, **question),
        chart=chart(now, series) if series else None,
        columns=(asking["by"], "Latest", "Lowest", "Highest") if series else (),
        rows=[_extremes(group) for group in now.groups],
        withheld_groups=now.withheld_groups,
        empty="" if now.groups or now.withheld_groups else empty,
        asking=asking,
    )


def _extremes(group: Group) -> list[str]:
    """Of the buckets of a group that are told."""
    numbers = [number for number in group.numbers["values"] if number is not None]
    if not numbers:
        return [group.value or "", *[_cell(None)] * 3]
    return [group.value or "", *map(written, (numbers[-1], min(numbers), max(numbers)))]


def _texts(group: Group) -> list[str]:
    return told(group.numbers["values"], group.numbers["withheld"])


def _cell(number: float | None) -> str:
    return "–" if number is None else written(number)  # noqa: RUF001
