"""`GET /v1/query/metrics`: a metric over time, of its series merged."""

from typing import Any

import numpy as np
import pytest

from aggregation import tallies
from aggregation.models import Policy
from tests.aggregation.planting import (
    DAY,
    HOUR,
    Measured,
    answered,
    ask,
    month,
    plant_points,
    today,
)
from tests.harness import Project, Service
from tests.ingest.traces import project_id


def values(answer: Any) -> dict[Any, list[Any]]:
    """The numbers of each group."""
    return {group["value"]: group["values"] for group in answer["groups"]}


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("avg", [20 / 6, None]),
        ("min", [-4, None]),
        ("max", [10, None]),
        ("sum", [20, 0]),
        ("count", [6, 0]),
        ("rate", [20 / 3600, 0]),
    ],
)
def test_series_of_a_name_are_merged(
    service: Service, project: Project, aggregate: str, expected: list[Any]
) -> None:
    start = today(1)
    plant_points(
        project,
        Measured(start, [1, 2, 3], "a", {"x": "1"}),
        Measured(start, [8, -4], "a"),
        Measured(start, [10], "b"),
        Measured(start, [99], "b", name="other"),
    )
    answer = answered(
        service, project, "metrics", name="m", agg=aggregate, interval="hour",
        from_=start, to=start + 2 * HOUR,
    )  # fmt: skip
    assert (answer["name"], answer["agg"]) == ("m", aggregate)
    assert values(answer) == {None: pytest.approx(expected)}


@pytest.mark.parametrize("aggregate", ["p50", "p90", "p95", "p99"])
@pytest.mark.parametrize("interval", ["hour", "day"])
def test_quantiles_are_one_percent_off_at_most(
    service: Service, project: Project, aggregate: str, interval: str
) -> None:
    start = today(1)
    random = np.random.default_rng(7)
    hours = [random.lognormal(3, 2, 400) * random.choice([-1, 1], 400, p=[0.1, 0.9])
             for _ in range(4)]  # fmt: skip
    for node in ("a", "b"):
        plant_points(
            project,
            *(
                Measured(start + n * HOUR, part[::2] if node == "a" else part[1::2], node,
                         kind="histogram")
                for n, part in enumerate(hours)
            ),
        )  # fmt: skip
    answer = answered(
        service, project, "metrics", name="m", agg=aggregate, interval=interval, from_=start,
        to=start + 4 * HOUR,
    )  # fmt: skip
    q = float(aggregate[1:]) / 100
    parts = hours if interval == "hour" else [np.concatenate(hours)]
    exact = [float(np.quantile(part, q, method="lower")) for part in parts]
    assert values(answer)[None] == pytest.approx(exact, rel=0.01)


def test_a_metric_nobody_measured_is_empty(service: Service, project: Project) -> None:
    span = {"from_": today(1), "to": today()}
    for aggregate, empty in (("sum", 0), ("avg", None), ("p95", None), ("count", 0)):
        answer = answered(service, project, "metrics", name="m", agg=aggregate, **span)
        assert values(answer) == {None: [empty]}
    answer = answered(service, project, "metrics", name="m", group_by="node", **span)
    assert values(answer) == {}


def test_a_cumulative_counters_growth_is_told_across_buckets(
    service: Service, project: Project
) -> None:
    start = today(1)
    plant_points(
        project,
        *(
            Measured(start + n * HOUR, grown, "a", kind="counter", cumulative=True)
            for n, grown in enumerate([[100, 110], [115, 120], [3, 5], [], [50, 60]])
            if grown
        ),
    )
    asked = {"name": "m", "agg": "sum"}
    hours = answered(
        service, project, "metrics", interval="hour", from_=start, to=start + 5 * HOUR, **asked
    )
    # From 110 to 115 it grew in the second hour, and from 120 it began anew.
    assert values(hours) == {None: [10, 10, 5, 0, 10]}
    late = answered(
        service, project, "metrics", interval="hour",
        from_=start + HOUR, to=start + 2 * HOUR, **asked,
    )  # fmt: skip
    assert values(late) == {None: [10]}, "whatever is asked for beside it"
    days = answered(service, project, "metrics", from_=start, to=start + DAY, **asked)
    # From the third hour to the fifth it grew by 45: the day knows.
    assert values(days) == {None: [80]}


def test_series_are_grouped_by_node_or_tag_and_chosen_by_them(
    service: Service, project: Project
) -> None:
    start = today(1)
    plant_points(
        project,
        Measured(start, [1], "a", {"region": "eu", "disk": "x"}),
        Measured(start, [2], "a", {"region": "us", "disk": "x"}),
        Measured(start, [4], "b", {"region": "eu"}),
        Measured(start, [8]),
    )

    def sums(**asked: Any) -> dict[Any, list[Any]]:
        answer = answered(
            service, project, "metrics", name="m", agg="sum", from_=start, to=start + DAY, **asked
        )
        return values(answer)

    assert sums(group_by="node") == {"a": [3], "b": [4], "(none)": [8]}
    assert sums(group_by="region") == {"eu": [5], "us": [2], "(none)": [8]}
    assert sums(group_by="region", node="a") == {"eu": [1], "us": [2]}
    assert sums(tags="region:eu") == {None: [5]}
    assert sums(tags="region:eu,disk:x") == {None: [1]}
    assert sums(node="b") == {None: [4]}
    assert sums(node="b", tags="region:us") == {None: [0]}


def test_days_of_a_zone_are_made_of_hours(service: Service, project: Project) -> None:
    start = today(3)
    plant_points(
        project,
        *(Measured(start + h * HOUR, [h], "a") for h in (18, 19, 20, 42, 43)),
    )
    for aggregate, expected in (("sum", 81), ("max", 42), ("p50", 20), ("count", 3)):
        answer = answered(
            service, project, "metrics", name="m", agg=aggregate, tz="Asia/Tashkent",
            from_=(start + DAY).date(), to=(start + 2 * DAY).date(),
        )  # fmt: skip
        assert values(answer) == {None: [pytest.approx(expected, rel=0.01)]}


def test_groups_come_a_page_at_a_time(service: Service, project: Project) -> None:
    start = today(1)
    plant_points(project, *(Measured(start, [1] * (n % 3 + 1), f"n{n}") for n in range(7)))
    asked: dict[str, Any] = {"name": "m", "group_by": "node", "limit": 3, "from_": start}
    found: list[str] = []
    for length in (3, 3, 1):
        answer = answered(service, project, "metrics", to=start + DAY, **asked)
        assert len(answer["groups"]) == length
        found += values(answer)
        asked["cursor"] = answer["next"]
    assert answer["next"] is None
    assert found == ["n2", "n5", "n1", "n4", "n0", "n3", "n6"]


# --- persons' series ---


def test_machines_are_told_whatever_their_number(service: Service, project: Project) -> None:
    start = today(1)
    plant_points(project, Measured(start, [7], "a"))
    answer = answered(service, project, "metrics", name="m", agg="max", from_=start, to=today())
    assert values(answer) == {None: [7]}
    assert answer["withheld"] == {"groups": 0, "cells": 0}


def test_few_peoples_measurements_are_withheld(service: Service, project: Project) -> None:
    start = today(1)
    plant_points(
        project,
        Measured(start, [1] * 9, tags={"os": "a"}, people=range(9)),
        Measured(start, [1] * 4, tags={"os": "b"}, people=range(4)),
        Measured(start, [1] * 2, tags={"os": "c"}),
    )
    asked = {"name": "m", "agg": "sum", "from_": start, "to": today()}
    answer = answered(service, project, "metrics", **asked)
    (group,) = answer["groups"]
    assert (group["values"], group["withheld"]) == ([11], [1])
    by_os = answered(service, project, "metrics", group_by="os", **asked)
    assert values(by_os) == {"a": [9], "c": [2]}
    assert by_os["withheld"] == {"groups": 1, "cells": 1}
    alone = answered(service, project, "metrics", tags="os:b", **asked)
    assert alone["groups"][0] == {"value": None, "values": [None], "withheld": [1]}
    Policy.objects.create(project_id=project_id(project), threshold=1)
    assert values(answered(service, project, "metrics", **asked)) == {None: [15]}


def test_an_hour_is_not_what_a_day_leaves_of_the_others(service: Service, project: Project) -> None:
    start = today(1)
    plant_points(
        project,
        *(
            Measured(start + h * HOUR, [float(2**h)] * n, people=range(n))
            for h, n in enumerate((3, 20, 8, 30))
        ),
    )
    span = {"name": "m", "agg": "sum", "from_": start, "to": start + 4 * HOUR}
    answer = answered(service, project, "metrics", interval="hour", **span)
    assert values(answer) == {None: [None, 40, None, 240]}
    assert values(answered(service, project, "metrics", **span)) == {None: [3 + 40 + 32 + 240]}


def test_a_days_rarest_are_not_what_its_hours_leave_of_them(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hour has few series, and the day too many: y and x are counted together there."""
    monkeypatch.setattr(tallies, "MOST_SERIES", 2)
    start = today(2)
    plant_points(
        project,
        Measured(start, [1.0] * 10, tags={"os": "a"}, people=range(10)),
        Measured(start, [2.0] * 8, tags={"os": "b"}, people=range(8)),
        Measured(start + HOUR, [3.0] * 6, tags={"os": "y"}, people=range(6)),
        Measured(start + 2 * HOUR, [1234.5], tags={"os": "x"}, people=[42]),
    )
    asked = {"name": "m", "agg": "sum", "from_": start, "to": start + DAY}

    def told(interval: str) -> dict[Any, float]:
        answer = answered(service, project, "metrics", group_by="os", interval=interval, **asked)
        return {value: sum(filter(None, line)) for value, line in values(answer).items()}

    assert told("hour") == {"a": 10, "b": 16, "y": 18}
    for interval in ("day", "month"):
        assert told(interval) == {"a": 10, "b": 16}
    (group,) = answered(service, project, "metrics", **asked)["groups"]
    assert (group["values"], group["withheld"]) == ([26], [1])


def test_machines_rarest_are_told(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "MOST_SERIES", 1)
    start = today(2)
    plant_points(project, *(Measured(start, [2.0] * n, f"n{n}") for n in (1, 2, 3)))
    answer = answered(service, project, "metrics", name="m", agg="sum", from_=start, to=start + DAY)
    assert values(answer) == {None: [12]}


def test_a_month_without_people_is_a_machines(service: Service, project: Project) -> None:
    """What is decided of a month doesn't depend on whether another is asked for."""
    earlier, later = month(2), month(1)
    plant_points(project, Measured(earlier, [1]), Measured(later, [2] * 3, people=range(3)))
    answer = answered(
        service, project, "metrics", name="m", agg="sum", interval="month",
        from_=earlier, to=later + DAY,
    )  # fmt: skip
    assert values(answer) == {None: [1, None]}


def test_a_name_is_needed(service: Service, project: Project) -> None:
    answer = ask(service, project, "metrics")
    assert (answer.status, answer.json["code"]) == (400, "missing_field")
    assert answer.json["errors"][0]["field"] == "name"
