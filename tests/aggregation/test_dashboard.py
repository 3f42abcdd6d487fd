"""The dashboard over HTTP: what it shows, what it refuses, and that it shows no more than is
released."""

import csv
import io
import json
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from aggregation.models import Dimension, DirtyMark, Kind, Level, MetricDay, MetricMonth, Policy
from aggregation.queries import events
from ingest.models import Project as Row
from tests.aggregation.planting import (
    DAY,
    HOUR,
    Happened,
    Measured,
    answered,
    ask,
    plant,
    plant_points,
    today,
)
from tests.aggregation.test_query_costs import counted
from tests.harness import Project, Service
from tests.ingest.traces import project_id
from tests.ingest.waiting import storing
from tests.people import ROLES, logged_in

PAGE = "/admin/aggregation/counting/dashboard/"
FILE = f"{PAGE}file/"
TEN = range(10)


@pytest.fixture
def viewer(service: Service) -> Client:
    return logged_in("viewer")


def look(client: Client, project: Project, status: int = 200, **asked: Any) -> str:
    """The page; `from_` is `from`."""
    given = {name.rstrip("_"): str(value) for name, value in asked.items()}
    answer = client.get(PAGE, {"project": project_id(project), **given})
    assert answer.status_code == status, answer.text
    return answer.text


def panel(page: str, name: str) -> str:
    found = re.search(rf'<section class="panel" id="{name}">(.*?)</section>', page, re.S)
    assert found, name
    return found[1]


def words(html: str) -> str:
    """What a person reads of it."""
    without_data = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", without_data)).split())


def tile(page: str, name: str) -> str:
    found = re.search(rf'id="tile-{name}">(.*?)</div>', page, re.S)
    assert found, name
    return words(found[1])


def chart(page: str, name: str) -> dict[str, Any]:
    found = re.search(rf'<script id="{name}-chart" type="application/json">(.*?)</script>', page)
    assert found, name
    return dict(json.loads(found[1]))


def drawn(page: str, name: str) -> dict[str, list[Any]]:
    """The numbers of a chart by what they are called."""
    return {one["label"]: one["numbers"] for one in chart(page, name)["series"]}


def lines(page: str, name: str) -> list[list[str]]:
    """The rows of a panel's table."""
    (body,) = re.findall(r"<tbody>(.*?)</tbody>", panel(page, name), re.S)
    return [
        [words(cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.S)]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.S)
    ]


def file_of(page: str, name: str) -> str:
    """Where a panel's CSV is."""
    found = re.search(r'href="([^"]*/file/[^"]*)"', panel(page, name))
    assert found, name
    return unescape(found[1])


# --- who ---


@pytest.mark.parametrize("role", ROLES)
def test_whoever_may_see_what_is_counted_sees_it(project: Project, role: str) -> None:
    client = logged_in(role)
    assert PAGE in client.get("/admin/").text
    assert project.project in look(client, project)
    assert PAGE in client.get(f"/admin/ingest/project/{project_id(project)}/change/").text


def test_others_get_403_and_no_link(project: Project) -> None:
    client = logged_in()
    look(client, project, status=403)
    asked = {"project": project_id(project), "what": "events"}
    assert client.get(FILE, asked).status_code == 403
    assert PAGE not in client.get("/admin/").text
    assert Client().get(PAGE).status_code == 302


@pytest.mark.parametrize("project_named", ["0", "x", "999999999999999999"])
def test_a_project_that_is_none_is_no_page(
    project: Project, viewer: Client, project_named: str
) -> None:
    assert viewer.get(PAGE, {"project": project_named}).status_code == 400


def test_a_project_is_chosen_among_all(project: Project, viewer: Client) -> None:
    page = look(viewer, project)
    assert f'<option value="{project_id(project)}" selected>{project.project}</option>' in page
    assert viewer.get(PAGE).status_code == 200


# --- events ---


def eight_days(project: Project) -> None:
    """Of the last days but today more and more people, and half as many with a beta."""
    Dimension.objects.create(project_id=project_id(project), name="version", path="client_version")
    plant(
        project,
        *(
            Happened(today(days, hour), range(30 - days), name, {"version": version})
            for days in range(1, 9)
            for hour, name, version in ((5, "loaded", "2.0"), (9, "saved", "2.1"))
        ),
    )


def test_what_is_drawn_is_what_the_query_api_answers(
    service: Service, project: Project, viewer: Client
) -> None:
    eight_days(project)
    page = look(viewer, project, from_=today(4).date(), to=today(1).date())
    time = {"from_": today(4), "to": today(), "interval": "day"}
    (group,) = answered(service, project, "events", **time)["groups"]
    old = {**time, "from_": today(8), "to": today(4)}
    (before,) = answered(service, project, "events", **old)["groups"]
    assert drawn(page, "time") == {
        "Events": group["count"],
        "People": group["people"],
        "Events before": before["count"],
        "People before": before["people"],
    }
    for name, group_by in (("by-event", "event"), ("by-version", "version")):
        groups = answered(service, project, "events", **time, group_by=group_by)["groups"]
        assert len(groups) == 2
        assert drawn(page, name) == {group["value"]: group["count"] for group in groups}


def test_tiles_add_up_and_compare_with_the_time_before(project: Project, viewer: Client) -> None:
    eight_days(project)
    page = look(viewer, project, from_=today(4).date(), to=today(1).date())
    # 26 to 29 people, and 22 to 25; each sends two events of ten bytes.
    assert tile(page, "count") == "Events 220 +17 % against before"
    assert tile(page, "people").startswith("People a day, on average 27.5 +17")
    assert tile(page, "sessions").startswith("Sessions a day, on average 27.5 +17")
    assert tile(page, "bytes").startswith("Bytes 2.1 KB +17")
    assert lines(page, "by-version") == [
        ["2.0", "110", "+17 %", "27.5", "–"],
        ["2.1", "110", "+17 %", "27.5", "–"],
    ]


def test_of_one_bucket_people_are_no_average(project: Project, viewer: Client) -> None:
    eight_days(project)
    page = look(viewer, project, from_=today(1).date(), to=today(1).date(), interval="day")
    assert tile(page, "people").startswith("People 29")


def test_days_that_go_on_are_not_compared(project: Project, viewer: Client) -> None:
    plant(project, Happened(today(1), TEN), *(Happened(today(), range(20)),))
    page = look(viewer, project, from_=today().date(), interval="day")
    assert tile(page, "count") == "Events 20 nothing to compare with"


def test_what_was_before_the_first_event_is_in_no_average(project: Project, viewer: Client) -> None:
    plant(project, Happened(today(1), TEN))
    page = look(viewer, project, from_=today(20).date(), to=today(1).date())
    assert tile(page, "people").startswith("People a day, on average 10 ")


def test_one_event_is_looked_at(project: Project, viewer: Client) -> None:
    eight_days(project)
    whole = look(viewer, project, range="7d")
    (link,) = re.findall(r'<a href="(\?[^"]*event=saved[^"]*)"', whole)
    page = viewer.get(PAGE + unescape(link)).text
    assert sum(drawn(page, "time")["Events"]) * 2 == sum(drawn(whole, "time")["Events"])
    assert drawn(page, "by-event") == drawn(whole, "by-event")
    assert "Events and people: saved" in page


def test_groups_are_drawn_by_their_people(project: Project, viewer: Client) -> None:
    plant(project, Happened(today(1), TEN), Happened(today(1), range(8), "f"))
    page = look(viewer, project, number="people", from_=today(1).date(), to=today(1).date())
    assert {name: max(numbers) for name, numbers in drawn(page, "by-event").items()} == {
        "e": 10,
        "f": 8,
    }


def test_a_dimension_of_one_event_says_so(project: Project, viewer: Client) -> None:
    pk = project_id(project)
    Dimension.objects.create(project_id=pk, name="host", path="properties.host", event="loaded")
    plant(project, Happened(today(1), TEN, "loaded", {"host": "Reaper"}))
    page = look(viewer, project, range="7d")
    assert "By host of loaded" in words(panel(page, "by-host"))
    assert lines(page, "by-host")[0][:2] == ["Reaper", "10"]


# --- time ---


@pytest.mark.parametrize(
    ("range_", "buckets", "level"),
    [("24h", 24, "hour"), ("7d", 7, "day"), ("30d", 30, "day"), ("90d", 90, "day"),
     ("12m", 12, "month")],
)  # fmt: skip
def test_a_range_has_so_many_buckets_until_now(
    project: Project, viewer: Client, range_: str, buckets: int, level: str
) -> None:
    plant(project, Happened(today(), TEN))
    page = look(viewer, project, range=range_)
    assert len(chart(page, "time")["labels"]) == buckets
    assert f", by {level}" in words(page)


@pytest.mark.parametrize(
    ("days", "given", "level", "buckets"),
    [
        (0, {}, "hour", 24),
        (2, {}, "hour", 72),
        (3, {}, "day", 4),
        (80, {}, "day", 81),
        (200, {}, "month", None),
        (2, {"interval": "day"}, "day", 3),
    ],
)
def test_the_interval_fits_the_time_unless_it_is_chosen(
    project: Project, viewer: Client, days: int, given: Any, level: str, buckets: int | None
) -> None:
    plant(project, Happened(today(1), TEN))
    first = today(1) - days * DAY
    page = look(viewer, project, from_=first.date(), to=today(1).date(), **given)
    assert f", by {level}" in words(page)
    assert buckets is None or len(chart(page, "time")["labels"]) == buckets


def test_the_last_day_is_in_it(project: Project, viewer: Client) -> None:
    plant(project, *(Happened(today(2, hour), TEN) for hour in (0, 23)), Happened(today(1), TEN))
    page = look(viewer, project, from_=today(2).date(), to=today(2).date())
    assert tile(page, "count").startswith("Events 20")
    assert f"{today(2):%Y-%m-%d} 00:00 to {today(1):%Y-%m-%d} 00:00 (UTC)" in words(page)


def test_days_are_those_of_a_time_zone(project: Project, viewer: Client) -> None:
    plant(project, Happened(today(3, hour=23), TEN), Happened(today(2, hour=1), TEN))
    asked = {"from_": today(2).date(), "to": today(2).date(), "tz": "Etc/GMT-1"}
    assert tile(look(viewer, project, **asked, interval="day"), "count").startswith("Events 20")


def test_a_time_may_be_given_to_the_hour(project: Project, viewer: Client) -> None:
    plant(project, Happened(today(2, hour=3), TEN), Happened(today(2, hour=4), TEN))
    end = today(2, hour=4)
    page = look(viewer, project, from_=(end - HOUR).isoformat(), to=end.isoformat())
    assert f'value="{end.isoformat()}"' in page
    assert tile(page, "count").startswith("Events 10")


# --- what is refused ---


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"from_": "yesterday"}, "“from” must be a time such as"),
        ({"to": "2026-02-31"}, "“to” must be a time such as"),
        ({"from_": "2026-10-02", "to": "2026-10-01"}, "“from” must lie before to, and before now."),
        ({"from_": "1999-01-01"}, "must not lie before"),
        ({"interval": "week"}, "“interval” must be hour, day or month."),
        ({"range": "1y"}, "“range” must be 24h, 7d, 30d, 90d or 12m."),
        ({"number": "bytes"}, "“number” must be count or people."),
        ({"tz": "Vienna"}, "“tz” must be a time zone of the IANA database"),
        ({"tz": "Asia/Kolkata"}, "“tz” must be whole hours off UTC"),
        ({"event": "x" * 201}, "“event” must be at most 200 characters long."),
        ({"event": "\0"}, "“event” must not contain NUL."),
        ({"from_": "2025-01-01", "interval": "hour"}, "aren't there any more"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said_beside_the_form(
    project: Project, viewer: Client, asked: dict[str, str], sentence: str
) -> None:
    page = look(viewer, project, **asked)
    assert sentence in words(page)
    assert 'id="asked"' in page
    assert "tile-count" not in page


def test_a_panel_that_costs_too_much_says_so_and_the_others_are_told(
    project: Project, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(project, Happened(today(1), TEN))
    monkeypatch.setattr(events, "MOST_READ", 1)
    page = look(viewer, project)
    assert "“from” must lie closer to `to`" in words(panel(page, "by-event"))
    assert max(drawn(page, "time")["Events"]) == 10


# --- what is withheld ---


def test_what_is_withheld_is_no_number_anywhere(project: Project, viewer: Client) -> None:
    plant(
        project,
        *(Happened(today(days), range(40), "many") for days in (1, 2)),
        Happened(today(1), range(3), "few"),
        Happened(today(1), range(7), "some"),
    )
    page = look(viewer, project, from_=today(2).date(), to=today(1).date(), interval="day")
    assert "few" not in drawn(page, "by-event")
    assert "some" not in drawn(page, "by-event")
    assert ">few<" not in page
    assert "2 more groups are withheld." in words(panel(page, "by-event"))
    assert "Groups of fewer than 5 people are withheld" in words(page)


def test_a_bucket_that_is_withheld_is_shaded_and_called_so(
    project: Project, viewer: Client
) -> None:
    plant(project, Happened(today(2), TEN), Happened(today(1), range(3)))
    page = look(viewer, project, from_=today(3).date(), to=today(1).date(), interval="day")
    assert drawn(page, "time")["Events"][-1] is None
    assert 2 in chart(page, "time")["withheld"]
    latest, *_ = lines(page, "time")
    assert latest[:5] == [str(today(1).date()), *["withheld"] * 4]


def test_a_threshold_of_one_withholds_nothing(project: Project, viewer: Client) -> None:
    Policy.objects.create(project_id=project_id(project), threshold=1)
    plant(project, Happened(today(1), [1]))
    page = look(viewer, project, from_=today(1).date(), to=today(1).date(), interval="day")
    assert tile(page, "count").startswith("Events 1 ")
    assert "Nothing is withheld" in words(page)


def test_until_when_it_is_counted_and_clean_is_said(project: Project, viewer: Client) -> None:
    plant(project, Happened(today(3), TEN))
    assert "Everything stored until now is counted." in words(look(viewer, project))
    with storing():
        DirtyMark.objects.create(
            project_id=project_id(project), kind=Kind.EVENTS, level=Level.DAY,
            bucket=today(2), erasing=True, marked_at=today(1, hour=2),
        )  # fmt: skip
        page = words(look(viewer, project))
    assert f"Counted until {today(2):%Y-%m-%d} 00:00;" in page
    assert f"Whoever asked for erasure before {today(1):%Y-%m-%d} 02:00 is in no number" in page


# --- metrics and nodes ---


def measured(project: Project) -> None:
    plant_points(
        project,
        *(
            Measured(today(1, hour), [1, 2, 3, 100], node, {"route": "/up"}, kind="histogram",
                     name="latency")
            for hour in (3, 4) for node in ("n1", "n2")
        ),
        Measured(today(1, 3), [5, 7], name="requests", kind="counter"),
        Measured(today(1, 3), [45.2], "n1", name="node.cpu_percent"),
    )  # fmt: skip


def test_a_metric_is_told_by_its_quantiles(
    service: Service, project: Project, viewer: Client
) -> None:
    measured(project)
    asked = {"from_": today(1).date(), "to": today(1).date()}
    page = look(viewer, project, **asked)
    series = drawn(page, "metric")
    assert [*series] == ["p95", "p50", "p99", "avg", "p95 before", "Measurements"]
    assert series["Measurements"][3:5] == [8, 8]
    for aggregate in ("p50", "p95", "p99", "avg"):
        question = {"name": "latency", "agg": aggregate, "interval": "hour"}
        answer = answered(service, project, "metrics", from_=today(1), to=today(), **question)
        assert series[aggregate] == answer["groups"][0]["values"]
    of_counter = look(viewer, project, **asked, metric="requests")
    assert drawn(of_counter, "metric")["sum"][3] == 12


def test_a_metric_is_told_by_node_and_tag(project: Project, viewer: Client) -> None:
    measured(project)
    asked = {"from_": today(1).date(), "to": today(1).date(), "metric": "latency"}
    page = look(viewer, project, **asked, by="node", agg="avg")
    assert {*drawn(page, "metric")} == {"n1", "n2"}
    assert lines(page, "metric")[0] == ["n1", "26.5", "26.5", "26.5"]
    assert [*drawn(look(viewer, project, **asked, by="route"), "metric")] == ["/up"]
    choices = re.findall(r'<select name="by".*?</select>', page, re.S)
    assert [words(choice) for choice in choices] == ["nothing node route"]


def test_a_metric_is_refused_by_itself(project: Project, viewer: Client) -> None:
    measured(project)
    page = look(viewer, project, metric="latency", by="node", agg="median")
    assert "“agg” must be avg, min" in words(panel(page, "metric"))
    assert "latency" in panel(page, "metric")


@pytest.mark.parametrize("name", ["\0", "x" * 201])
def test_a_metric_that_can_be_none_is_refused(project: Project, viewer: Client, name: str) -> None:
    assert "“name” must" in words(panel(look(viewer, project, metric=name), "metric"))


def test_names_of_metrics_of_few_people_are_not_told(project: Project, viewer: Client) -> None:
    plant_points(
        project,
        Measured(today(1), [1], people=range(3), name="few", tags={"only": "x"}),
        Measured(today(1), [1], people=range(6), name="enough", tags={"known": "x"}),
        Measured(today(1), [1], people=range(6), name="enough", tags={"user": "x"}),
        Measured(today(1), [1], people=range(3), name="enough", tags={"rare": "x"}),
        Measured(today(1), [1], name="machine"),
    )
    page = look(viewer, project, metric="enough")
    assert words(re.findall(r'<select name="metric".*?</select>', page, re.S)[0]) == (
        "enough machine"
    )
    assert "rare" not in panel(page, "metric")
    assert "known" in panel(page, "metric")
    assert "<option>user" not in panel(page, "metric")


def test_a_metric_of_this_hour_is_there_before_its_day_and_month(
    project: Project, viewer: Client
) -> None:
    hour = timezone.now().replace(minute=0, second=0, microsecond=0) - HOUR
    plant_points(project, Measured(hour, [1], name="new"))
    for table in (MetricDay, MetricMonth):
        table.objects.filter(project_id=project_id(project)).delete()
    assert max(drawn(look(viewer, project, range="24h"), "metric")["avg"], key=bool) == 1


def test_nodes_stand_with_their_latest_snapshot(project: Project, viewer: Client) -> None:
    measured(project)
    page = look(viewer, project)
    assert lines(page, "nodes") == [["n1", f"{today(1, 3):%Y-%m-%d %H:%M:%S}", "45.2"]]


# --- files ---


@pytest.mark.parametrize("name", ["time", "by-event", "by-version", "metric", "nodes"])
def test_a_panels_file_is_the_query_apis(
    service: Service, project: Project, viewer: Client, name: str
) -> None:
    eight_days(project)
    measured(project)
    page = look(viewer, project, from_=today(4).date(), to=today(1).date())
    address = file_of(page, name)
    answer = viewer.get(address)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    given = dict(parse_qsl(address.partition("?")[2]))
    what = given.pop("what")
    assert answer["Content-Disposition"] == f'attachment; filename="{project.project}-{what}.csv"'
    assert given.pop("project") == str(project_id(project))
    api = ask(service, project, what, **given, format="csv")
    assert api.text == answer.text
    assert len([*csv.reader(io.StringIO(answer.text))]) > 1
    assert "Telemetry-Complete-Until" in answer


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"what": "events", "from": "never"}, "“from” must be a time"),
        ({"what": "metrics"}, "“name” must name a metric."),
        ({"what": "events", "limit": "0"}, "“limit” must be"),
    ],
)
def test_a_file_is_refused_with_the_sentence(
    project: Project, viewer: Client, asked: dict[str, str], sentence: str
) -> None:
    answer = viewer.get(FILE, {"project": project_id(project), **asked})
    assert answer.status_code == 400
    assert sentence in answer.text


def test_there_is_no_other_file(project: Project, viewer: Client) -> None:
    asked = {"project": project_id(project), "what": "persons"}
    assert viewer.get(FILE, asked).status_code == 400


# --- nothing, and too much ---


def test_without_anything_it_says_what_to_do(project: Project, viewer: Client) -> None:
    page = look(viewer, project)
    for name, sentence in {
        "time": "No event of this time is counted.",
        "by-event": "No event of this time is counted.",
        "no-dimension": "No dimension is declared.",
        "metric": "No measurement of this time is counted.",
        "nodes": "No node has sent a snapshot",
    }.items():
        assert sentence in words(panel(page, name)), name
    assert f"/admin/aggregation/counting/{project_id(project)}/change/" in page


def test_names_are_text_wherever_they_stand(project: Project, viewer: Client) -> None:
    name = "</script><script>alert(1)</script>&\"'"
    plant(project, Happened(today(1), TEN, name))
    page = look(viewer, project, event=name)
    assert "<script>alert" not in page
    assert [*drawn(page, "by-event")] == [name]


def test_the_number_of_statements_does_not_grow_with_what_there_is(
    service: Service, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = {}
    for size in (2, 20):
        project = _sized(size)
        look(viewer, project, metric="m1")
        with counted(monkeypatch) as statements:
            look(viewer, project, metric="m1")
        sent[size] = len(statements)
    assert sent[2] == sent[20] < 100, sent


def _sized(size: int) -> Project:
    """A project with so much of everything."""
    row, keys = Row.objects.create_with_keys(f"test {uuid4().hex}")
    project = Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)
    Dimension.objects.create(project_id=row.pk, name="version", path="client_version")
    at = [today(1 + number % 5, hour=number % 7) for number in range(size)]
    plant(
        project,
        *(Happened(one, TEN, f"e{n}", {"version": f"v{n}"}) for n, one in enumerate(at)),
    )
    plant_points(
        project,
        *(Measured(one, [n], f"n{n}", name=name) for n, one in enumerate(at)
          for name in (f"m{n}", "m1", "node.cpu")),
    )  # fmt: skip
    return project
