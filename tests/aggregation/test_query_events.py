"""`GET /v1/query/events`: events, people and sessions over time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aggregation.models import Dimension, EventHour, Policy
from tests.aggregation.planting import DAY, HOUR, Happened, answered, ask, month, plant, today
from tests.harness import Project, Service
from tests.ingest.traces import project_id

TEN = range(10)


def groups(answer: Any) -> dict[Any, list[Any]]:
    """The counts of each group."""
    return {group["value"]: group["count"] for group in answer["groups"]}


def test_events_are_counted_over_time_and_gaps_are_zeros(
    service: Service, project: Project
) -> None:
    start = today(3)
    plant(project, Happened(start, TEN), Happened(start + 2 * DAY + HOUR, range(5, 17)))
    answer = answered(service, project, "events", from_=start, to=start + 3 * DAY)
    assert answer["buckets"] == [f"{start + n * DAY:%Y-%m-%dT%H:%M:%SZ}" for n in range(3)]
    (group,) = answer["groups"]
    assert group == {
        "value": None,
        "count": [10, 0, 12],
        "people": [10, 0, 12],
        "sessions": [10, 0, 12],
        "bytes": [100, 0, 120],
        "withheld": [0, 0, 0],
    }


@pytest.mark.parametrize(
    ("interval", "start", "buckets"),
    [("hour", today(2), 24), ("day", month(2), 20), ("month", month(14), 14)],
)
def test_a_bucket_is_an_hour_a_day_or_a_month(
    service: Service, project: Project, interval: str, start: datetime, buckets: int
) -> None:
    answer = answered(service, project, "events", interval=interval, from_=start, to=today())
    assert answer["interval"] == interval
    assert answer["from"] == answer["buckets"][0] == f"{start:%Y-%m-%dT%H:%M:%SZ}"
    assert len(answer["buckets"]) >= buckets
    assert all(len(numbers) == len(answer["buckets"]) for numbers in groups(answer).values())


def test_times_are_widened_to_whole_buckets(service: Service, project: Project) -> None:
    start = today(2)
    plant(project, Happened(start + 5 * HOUR, TEN))
    minute = timedelta(minutes=1)
    answer = answered(
        service, project, "events", interval="hour",
        from_=start + 5 * HOUR + minute, to=start + 6 * HOUR + minute,
    )  # fmt: skip
    assert answer["from"] == f"{start + 5 * HOUR:%Y-%m-%dT%H:%M:%SZ}"
    assert answer["to"] == f"{start + 7 * HOUR:%Y-%m-%dT%H:%M:%SZ}"
    assert groups(answer) == {None: [10, 0]}


def test_a_date_is_its_first_moment(service: Service, project: Project) -> None:
    start = today(2)
    plant(project, Happened(start, TEN))
    answer = answered(service, project, "events", from_=start.date(), to=(start + DAY).date())
    assert groups(answer) == {None: [10]}


@pytest.mark.parametrize(("interval", "buckets"), [("hour", 48), ("day", 30), ("month", 12)])
def test_by_default_the_last_buckets_are_answered(
    service: Service, project: Project, interval: str, buckets: int
) -> None:
    answer = answered(service, project, "events", interval=interval)
    assert len(answer["buckets"]) == buckets
    now = datetime.now(UTC)
    assert datetime.fromisoformat(answer["buckets"][-1]) <= now
    assert datetime.fromisoformat(answer["to"]) > now


def test_events_by_name(service: Service, project: Project) -> None:
    start = today(2)
    plant(project, Happened(start, range(20), "b"), Happened(start + DAY, TEN, "a"))
    span = {"from_": start, "to": start + 2 * DAY}
    answer = answered(service, project, "events", group_by="event", **span)
    assert answer["group_by"] == "event"
    assert list(groups(answer).items()) == [("b", [20, 0]), ("a", [0, 10])], "the largest first"
    assert groups(answered(service, project, "events", event="a", **span)) == {None: [0, 10]}
    assert groups(answered(service, project, "events", event="c", **span)) == {None: [0, 0]}


def test_events_by_a_dimension_of_all_and_of_one_name(service: Service, project: Project) -> None:
    pk, start = project_id(project), today(1)
    Dimension.objects.create(project_id=pk, name="version", path="client_version")
    Dimension.objects.create(project_id=pk, name="plugin", path="properties.p", event="load")
    plant(
        project,
        Happened(start, TEN, "load", {"version": "1.0", "plugin": "Gate"}),
        Happened(start, range(10, 18), "load", {"version": "2.0", "plugin": "Delay"}),
        Happened(start, TEN, "stop", {"version": "1.0"}),
    )
    span = {"from_": start, "to": start + DAY}
    by_version = answered(service, project, "events", group_by="version", **span)
    assert groups(by_version) == {"1.0": [20], "2.0": [8]}
    by_plugin = answered(service, project, "events", group_by="plugin", event="load", **span)
    assert groups(by_plugin) == {"Gate": [10], "Delay": [8]}


def test_what_can_not_be_grouped_is_refused_with_what_can(
    service: Service, project: Project
) -> None:
    pk = project_id(project)
    Dimension.objects.create(project_id=pk, name="version", path="client_version")
    Dimension.objects.create(project_id=pk, name="plugin", path="properties.p", event="load")
    for asked, field, said in (
        ({"group_by": "colour"}, "group_by", "event, plugin, version"),
        ({"group_by": "event", "event": "load"}, "group_by", "Leave one out"),
        ({"group_by": "version", "event": "load"}, "event", "for all events"),
        ({"group_by": "plugin"}, "event", "must be load"),
        ({"group_by": "plugin", "event": "stop"}, "event", "must be load"),
    ):
        answer = ask(service, project, "events", **asked)
        assert (answer.status, answer.json["code"]) == (400, "invalid_value")
        assert [error["field"] for error in answer.json["errors"]] == [field]
        assert said in answer.json["details"]


def test_small_groups_are_withheld_and_counted(service: Service, project: Project) -> None:
    start = today(1)
    plant(
        project,
        *(Happened(start, range(n), name) for name, n in (("a", 30), ("b", 20), ("c", 4))),
    )
    answer = answered(service, project, "events", group_by="event", from_=start, to=start + DAY)
    assert answer["threshold"] == 5
    # c is too small, and with a and the total b would tell it.
    assert groups(answer) == {"a": [30]}
    assert answer["withheld"] == {"groups": 2, "cells": 2}
    Policy.objects.create(project_id=project_id(project), threshold=4)
    answer = answered(service, project, "events", group_by="event", from_=start, to=start + DAY)
    assert groups(answer) == {"a": [30], "b": [20], "c": [4]}
    assert (answer["threshold"], answer["withheld"]) == (4, {"groups": 0, "cells": 0})


def test_withheld_buckets_are_null_and_empty_ones_zero(service: Service, project: Project) -> None:
    start = today(1)
    plant(project, *(Happened(start + h * HOUR, range(n)) for h, n in ((1, 9), (3, 2), (4, 50))))
    answer = answered(service, project, "events", interval="hour", from_=start, to=start + 6 * HOUR)
    (group,) = answer["groups"]
    assert group["count"] == group["people"] == [0, None, 0, None, 50, 0]
    assert group["withheld"] == [0, 1, 0, 1, 0, 0]


# --- time zones ---


def test_days_of_a_zone_are_made_of_hours(service: Service, project: Project) -> None:
    start = today(3)  # In Kathmandu's neighbour it is five o'clock.
    plant(
        project,
        Happened(start + 18 * HOUR, range(10)),
        Happened(start + 19 * HOUR, range(8)),
        Happened(start + 20 * HOUR, range(4, 14)),
        Happened(start + 42 * HOUR, range(7)),
    )
    day = (start + DAY).date()
    answer = answered(service, project, "events", tz="Asia/Tashkent", from_=day, to=day + DAY)
    assert answer["buckets"] == [f"{day}T00:00:00+05:00"]
    (group,) = answer["groups"]
    assert (group["count"], group["people"], group["bytes"]) == ([25], [14], [250])


def test_a_zones_day_with_something_withheld_has_the_rest_and_no_people(
    service: Service, project: Project
) -> None:
    start = today(2)
    plant(project, *(Happened(start + h * HOUR, range(n)) for h, n in ((4, 9), (5, 3), (6, 50))))
    answer = answered(service, project, "events", tz="Etc/GMT-1", from_=start, to=start + DAY)
    (group,) = answer["groups"]
    assert group["count"] == [50, 0]
    assert group["people"] == [None, 0]
    assert group["withheld"] == [2, 0]


def test_a_zone_that_is_at_utc_has_utcs_days(service: Service, project: Project) -> None:
    start = today(2)
    plant(project, *(Happened(start + h * HOUR, range(n)) for h, n in ((4, 9), (5, 3), (6, 50))))
    answer = answered(
        service, project, "events", tz="Africa/Abidjan", from_=start.date(), to=start + DAY
    )
    assert groups(answer) == {None: [62]}
    assert answer["groups"][0]["people"] == [50]


def test_people_of_hours_without_sketches_can_not_be_told_for_a_zone(
    service: Service, project: Project
) -> None:
    start = today(2)
    plant(project, Happened(start + 5 * HOUR, TEN))
    hours = EventHour.objects.filter(project_id=project_id(project))
    hours.update(people_sketch=b"", sessions_sketch=b"")
    answer = answered(service, project, "events", tz="Etc/GMT-1", from_=start, to=start + HOUR)
    (group,) = answer["groups"]
    assert (group["count"], group["people"], group["sessions"]) == ([10], [None], [None])


# --- pages ---


def test_groups_come_by_size_a_page_at_a_time(service: Service, project: Project) -> None:
    start = today(1)
    sizes = {f"n{n}": 10 + n % 4 for n in range(11)}
    plant(project, *(Happened(start, range(n), name) for name, n in sizes.items()))
    asked: dict[str, Any] = {"group_by": "event", "limit": 4, "from_": start, "to": start + DAY}
    found: list[str] = []
    for length in (4, 4, 3):
        answer = answered(service, project, "events", **asked)
        assert len(answer["groups"]) == length
        found += groups(answer)
        asked["cursor"] = answer["next"]
    assert answer["next"] is None
    assert found == sorted(sizes, key=lambda name: (-sizes[name], name))


def test_a_cursor_goes_with_its_question(service: Service, project: Project) -> None:
    start = today(1)
    plant(project, *(Happened(start, TEN, name) for name in "abc"))
    asked = {"group_by": "event", "limit": 1, "from_": start, "to": start + DAY}
    cursor = answered(service, project, "events", **asked)["next"]
    answer = ask(service, project, "events", cursor=cursor, **asked | {"from_": start - DAY})
    assert (answer.status, answer.json["code"]) == (400, "invalid_value")
    assert "same parameters" in answer.json["details"]
