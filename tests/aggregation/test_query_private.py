"""What is answered of a project in private mode: released numbers, their sums, and nothing else."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from aggregation.models import Dimension, Mode, Policy
from aggregation.queries import events as event_queries
from aggregation.queries import parameters
from aggregation.queries import private as private_queries
from tests.aggregation.planting import (
    DAY,
    HOUR,
    Happened,
    Measured,
    answered,
    ask,
    month,
    plant,
    plant_points,
    today,
)
from tests.aggregation.releasing import day, private, released, spent
from tests.aggregation.test_query_costs import counted
from tests.harness import Project, Service
from tests.ingest.traces import project_id
from tests.people import logged_in

TEN = range(10)
# Raw numbers that no answer may have in it.
MANY = range(7777)


@pytest.fixture
def days(project: Project) -> Project:
    """A project that has four days released, and something else in its rollups."""
    spent(project, since=6)
    for ago, events, people in ((5, 100, 31), (4, 250, 40), (3, -7, 2), (2, 60, 25)):
        released(project, day(ago), events, people)
    plant(project, *(Happened(today(ago), MANY, "raw") for ago in range(8)))
    return project


def span(first: int, last: int) -> dict[str, Any]:
    """From a day until the end of another, so many days ago."""
    return {"from_": today(first), "to": today(last) + DAY}


def group(answer: Any) -> Any:
    (one,) = answer["groups"]
    return one


# --- numbers ---


def test_days_are_what_was_drawn_and_null_where_nothing_was(
    service: Service, days: Project
) -> None:
    answer = answered(service, days, "events", **span(7, 1))
    assert group(answer) == {
        "value": None,
        "count": [None, None, 100, 250, -7, 60, None],
        "people": [None, None, 31, 40, 2, 25, None],
        "sessions": [None] * 7,
        "bytes": [None] * 7,
        "withheld": [1, 1, 0, 0, 0, 0, 1],
    }


def test_the_daily_table_has_events_and_users(service: Service, days: Project) -> None:
    answer = answered(service, days, "daily", **span(3, 1))
    assert answer["days"] == [
        {"date": f"{day(ago)}", "total_events": events, "unique_users": people, "total_bytes": None}
        for ago, events, people in ((1, None, None), (2, 60, 25), (3, -7, 2))
    ]
    assert answer["mode"] == "private"


def test_asking_again_gives_the_same_numbers(service: Service, days: Project) -> None:
    first = answered(service, days, "events", **span(7, 1))
    assert answered(service, days, "events", **span(7, 1))["groups"] == first["groups"]
    for ago in (5, 4, 3, 2):
        one = answered(service, days, "events", **span(ago, ago))
        place = 7 - ago
        assert group(one)["count"] == [group(first)["count"][place]]


def test_months_are_sums_of_their_days_and_have_no_people(
    service: Service, project: Project
) -> None:
    first = month()
    since = (today() - first).days
    spent(project, since=since)
    start = first.date()
    for offset, events in ((0, 10), (9, -3), (20, 500)):
        released(project, start + timedelta(days=offset), events, 9, {"a": events} if events > 9
                 else None)  # fmt: skip
    until = first.replace(day=28) + 4 * DAY
    length = (until.replace(day=1) - first).days
    asked = {"interval": "month", "from_": first, "to": first + DAY}
    whole = group(answered(service, project, "events", **asked))
    assert (whole["count"], whole["people"], whole["withheld"]) == ([507], [None], [length - 3])
    named = group(answered(service, project, "events", event="a", **asked))
    assert (named["count"], named["withheld"]) == ([510], [length - 2])
    nothing = group(answered(service, project, "events", event="b", **asked))
    assert (nothing["count"], nothing["withheld"]) == ([None], [length])


def test_names_come_by_size_a_page_at_a_time(service: Service, project: Project) -> None:
    spent(project, since=4)
    released(project, day(3), 900, 9, {"a": 400, "b": 300})
    released(project, day(2), 900, 9, {"b": 350, "c": 120})
    asked: dict[str, Any] = {"group_by": "event", "limit": 2, **span(3, 2)}
    first = answered(service, project, "events", **asked)
    assert [(one["value"], one["count"]) for one in first["groups"]] == [
        ("b", [300, 350]),
        ("a", [400, None]),
    ]
    assert first["groups"][1]["withheld"] == [0, 1]
    assert first["groups"][1]["people"] == [None, None]
    second = answered(service, project, "events", cursor=first["next"], **asked)
    assert [(one["value"], one["count"]) for one in second["groups"]] == [("c", [None, 120])]
    assert second["next"] is None


def test_a_name_that_is_not_released_looks_like_one_that_never_was(
    service: Service, days: Project
) -> None:
    raw, never = (
        answered(service, days, "events", event=name, **span(5, 2))["groups"]
        for name in ("raw", "never")
    )
    assert raw == never == [group({"groups": raw})]
    assert raw[0]["count"] == [None] * 4
    assert answered(service, days, "events", group_by="event", **span(5, 2))["groups"] == []


# --- what is said ---


def test_answers_say_what_the_numbers_may_tell(service: Service, days: Project) -> None:
    answer = answered(service, days, "events", **span(5, 2))
    assert answer["mode"] == "private"
    assert not {"threshold", "withheld"} & answer.keys()
    assert answer["privacy"] == {
        "epsilon": 1.0,
        "delta": 1e-8,
        "lifetime_epsilon": 0.5,
        "lifetime_delta": 4e-8,
        "spent_epsilon": 1.0,
        "private_from": f"{day(6)}",
        "most_events": 20,
        "most_names": 5,
        "margins": {"events": 150, "people": 15, "names": 150},
        "fewest_of_a_name": 973,
    }
    assert answer["complete_until"] == f"{day(1)}T00:00:00Z"
    # The moment would tell how long it took to count.
    assert answer["clean_until"] == f"{day(0)}T00:00:00Z"


def test_before_the_first_day_there_is_nothing(service: Service, project: Project) -> None:
    spent(project, since=-1)
    answer = answered(service, project, "events", **span(5, 2))
    assert group(answer)["count"] == [None] * 4
    assert answer["privacy"]["spent_epsilon"] == 0
    assert answer["complete_until"] == f"{day(-1)}T00:00:00Z"


def test_the_table_as_csv(service: Service, days: Project) -> None:
    answer = ask(service, days, "daily", format="csv", **span(3, 1))
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["date", "total_events", "unique_users", "total_bytes"],
        [f"{day(1)}", "", "", ""],
        [f"{day(2)}", "60", "25", ""],
        [f"{day(3)}", "-7", "2", ""],
    ]
    assert answer.headers["telemetry-epsilon"] == "1 a day, 0.5 at most"
    assert "telemetry-threshold" not in answer.headers


# --- what is refused ---


@pytest.mark.parametrize(
    ("what", "asked", "field", "said"),
    [
        ("events", {"interval": "hour"}, "interval", "hours aren't released"),
        ("events", {"tz": "Europe/Vienna"}, "tz", "must be UTC"),
        ("daily", {"tz": "Asia/Tokyo"}, "tz", "must be UTC"),
        ("events", {"group_by": "version"}, "group_by", "no dimension is released"),
        ("metrics", {"name": "m"}, "project", "measurements, and whatever else"),
    ],
)
def test_what_is_not_released_is_refused_with_a_sentence(
    service: Service, days: Project, what: str, asked: dict[str, str], field: str, said: str
) -> None:
    Dimension.objects.create(project_id=project_id(days), name="version", path="client_version")
    answer = ask(service, days, what, **asked, **span(5, 2))
    assert (answer.status, answer.json["code"]) == (400, "private_mode")
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert said in answer.json["details"]


def test_a_zone_that_is_at_utc_is_as_good(service: Service, days: Project) -> None:
    answer = answered(service, days, "events", tz="Africa/Abidjan", from_=day(5), to=day(3))
    assert group(answer)["count"] == [100, 250]


def test_nodes_are_told_in_either_mode(service: Service, days: Project) -> None:
    gauge = Measured(today() - HOUR, [45.0], node="n1", name="node.cpu_percent")
    plant_points(days, gauge)
    (node,) = answered(service, days, "nodes")["nodes"]
    assert node["fields"] == {"cpu_percent": 45.0}
    assert ask(service, days, "accounting").status == 200


# --- the dashboard ---


def test_the_dashboard_shows_what_is_released_and_nothing_else(
    service: Service, days: Project
) -> None:
    Dimension.objects.create(project_id=project_id(days), name="version", path="client_version")
    asked = {"project": project_id(days), "range": "7d"}
    answer = logged_in("viewer").get("/admin/aggregation/counting/dashboard/", asked)
    assert answer.status_code == 200
    for said in (
        "Private mode: each day was drawn once, with noise",
        "within ± 150 events, ± 15 people; by name ± 150",
        "no dimension is released",
        "measurements, and whatever else there is, aren&#x27;t",
        ">250<",
    ):
        assert said in answer.text
    for raw in ("7777", "7,777", "Nothing is withheld", ">raw<"):
        assert raw not in answer.text


# --- costs ---


@pytest.mark.parametrize("size", [2, 20])
def test_the_number_of_statements_is_constant(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    spent(project, since=30)
    for ago in range(2, 2 + size):
        released(project, day(ago), 900, 90, {f"n{ago % size}": 500, "a": 400})
    question = parameters.events(QueryDict("group_by=event"), project_id(project))
    with counted(monkeypatch) as sent:
        assert len(event_queries.over_time(question).groups) == size + 1
    # The policy, days, how many numbers of names there are, these, and what is spent.
    assert len(sent) == 5, sent


def test_too_many_names_are_refused(
    service: Service, days: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(days, day(6), 900, 90, {"a": 500, "b": 400})
    monkeypatch.setattr(private_queries, "MOST_READ", 1)
    question = parameters.events(QueryDict("group_by=event"), project_id(days))
    with pytest.raises(ValidationError, match="at most 1 are looked at"):
        event_queries.over_time(question)


# --- both modes ---


def test_a_mode_that_changes_is_the_next_answers(service: Service, project: Project) -> None:
    plant(project, Happened(today(3), TEN))
    asked = span(3, 3)
    before = answered(service, project, "events", **asked)
    assert (before["mode"], group(before)["count"]) == ("threshold", [10])
    policy = private(project, since=-1)
    after = answered(service, project, "events", **asked)
    assert (after["mode"], group(after)["count"]) == ("private", [None])
    Policy.objects.filter(pk=policy.pk).update(mode=Mode.THRESHOLD)
    assert answered(service, project, "events", **asked)["groups"] == before["groups"]


def test_no_answer_of_a_private_project_has_anything_of_its_rollups(
    service: Service, days: Project
) -> None:
    for what, asked in (
        ("events", {}),
        ("events", {"group_by": "event"}),
        ("events", {"event": "raw"}),
        ("events", {"interval": "month"}),
        ("events", {"interval": "hour"}),
        ("daily", {}),
        ("metrics", {"name": "raw"}),
    ):
        text = ask(service, days, what, **asked).text
        assert "7777" not in text
        assert str(7777 * 8) not in text
