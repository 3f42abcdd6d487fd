"""What is asked wrongly: each is refused, with the parameter and what it must be."""

from datetime import datetime
from typing import Any

import pytest
from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from aggregation.models import Level
from aggregation.queries import events, parameters
from tests.aggregation.planting import DAY, HOUR, Happened, answered, ask, month, plant, today
from tests.harness import Answer, Project, Service
from tests.ingest.traces import project_id

NUL = "must not contain NUL"
LONG = "must be at most 200 characters long"
NO_TIME = "must be a time such as 2026-11-20T10:30:00Z (RFC 3339), or a date"
NO_RANGE = "must lie before to, and before now"
NO_ZONE = "must be a time zone of the IANA database, such as Europe/Vienna"
NO_TAGS = "must be written as name:value, several with commas between"
TELLING = (
    "must not name a tag that by its name ({}) tells persons, devices or sessions apart: "
    "measurements aren't counted by these. A machine is named by its node"
)
NO_CURSOR = "must be the `next` of an answer"
IN_HOURS = (
    "must be whole hours off UTC all the time that is asked for: buckets are made of UTC's hours. "
    "Ask in UTC or in a zone near it"
)
TOMORROW = f"{(today() + DAY).date()}"

# Where it is asked, what, of which parameter, the code, and the words.
WRONG: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("events", {"interval": "week"}, "interval", "invalid_value", "must be hour, day or month"),
    ("events", {"interval": ""}, "interval", "invalid_value", "must be hour, day or month"),
    ("events", {"format": "xml"}, "format", "invalid_value", "must be json or csv"),
    ("events", {"from_": "yesterday"}, "from", "invalid_timestamp", NO_TIME),
    ("events", {"to": "2026-02-30"}, "to", "invalid_timestamp", NO_TIME),
    ("events", {"from_": "1732096200"}, "from", "invalid_timestamp", NO_TIME),
    ("events", {"from_": "0001-01-01T00:00:00+14:00"}, "from", "invalid_timestamp", NO_TIME),
    ("events", {"from_": "\0"}, "from", "invalid_timestamp", NO_TIME),
    ("events", {"to": "0001-01-01"}, "to", "too_old", "must not lie before 2000-01-01"),
    ("events", {"from_": today(2), "to": today(2)}, "from", "invalid_range", NO_RANGE),
    ("events", {"from_": today(2), "to": today(3)}, "from", "invalid_range", NO_RANGE),
    ("events", {"from_": today() + 3 * DAY}, "from", "invalid_range", NO_RANGE),
    ("events", {"tz": "Vienna"}, "tz", "invalid_value", NO_ZONE),
    ("events", {"tz": "../../etc/passwd"}, "tz", "invalid_value", NO_ZONE),
    ("events", {"tz": "America"}, "tz", "invalid_value", NO_ZONE),
    ("events", {"tz": "UTC\0"}, "tz", "invalid_character", NUL),
    ("events", {"tz": "Asia/Kathmandu"}, "tz", "invalid_value", IN_HOURS),
    ("events", {"tz": "Asia/Kolkata", "interval": "hour"}, "tz", "invalid_value", IN_HOURS),
    ("events", {"event": "\0"}, "event", "invalid_character", NUL),
    ("events", {"event": "e" * 201}, "event", "too_long", LONG),
    ("events", {"group_by": "g" * 201}, "group_by", "too_long", LONG),
    ("events", {"group_by": "\0"}, "group_by", "invalid_character", NUL),
    (
        "events",
        {"group_by": "colour"},
        "group_by",
        "invalid_value",
        "must be one of those that the project declares: event",
    ),
    (
        "events",
        {"group_by": "event", "event": "load"},
        "group_by",
        "invalid_value",
        "is of no use with event: there would be one group. Leave one out",
    ),
    *(
        ("events", {"limit": limit}, "limit", "out_of_range", "must be a number from 1 to 1000")
        for limit in ("0", "-1", "1001", "ten", "", "1.5", "9" * 30, "٣")
    ),
    ("events", {"cursor": "%%%"}, "cursor", "invalid_value", NO_CURSOR),
    ("events", {"cursor": "e30="}, "cursor", "invalid_value", NO_CURSOR),
    ("events", {"cursor": "ü"}, "cursor", "invalid_value", NO_CURSOR),
    (
        "events",
        {"from_": "2001-01-01"},
        "from",
        "too_old",
        f"must not lie before {(today(366)).date()}. Days before that aren't there any more: ask "
        "for less time or, in UTC, for a longer interval",
    ),
    (
        "events",
        {"from_": today(91), "interval": "hour"},
        "from",
        "too_old",
        f"must not lie before {(today(90)).date()}. Hours, and the days of time zones before that "
        "aren't there any more: ask for less time or, in UTC, for a longer interval",
    ),
    (
        "events",
        {"from_": today(100), "to": today(3), "tz": "Europe/Vienna"},
        "from",
        "too_old",
        f"must not lie before {(today(90)).date()}. Hours, and the days of time zones before that "
        "aren't there any more: ask for less time or, in UTC, for a longer interval",
    ),
    (
        "events",
        {"from_": "1999-12-31", "interval": "month"},
        "from",
        "too_old",
        "must not lie before 2000-01-01. Months before that aren't there any more: ask for less "
        "time or, in UTC, for a longer interval",
    ),
    (
        "events",
        {"from_": today(85), "to": today(), "interval": "hour", "group_by": "event", "limit": 900},
        "limit",
        "too_costly",
        "must be at most 49 here: a group takes 2040 numbers, and an answer 100000 at most. Ask "
        "for fewer groups, less time or a longer interval",
    ),
    (
        "events",
        {"from_": today(30), "to": today(), "tz": "Etc/GMT-1", "group_by": "event", "limit": 50},
        "limit",
        "too_costly",
        "must be at most 13 here: a group takes 744 numbers, and an answer 10000 at most. Ask "
        "for fewer groups, less time or a longer interval",
    ),
    (
        "events",
        {"colour": "red"},
        "colour",
        "unknown_parameter",
        "is no parameter here. There are: from, to, tz, format, limit, cursor, interval, event, "
        "group_by",
    ),
    (
        "events",
        {"a b": "1"},
        "(unreadable)",
        "unknown_parameter",
        "is no parameter here. There are: from, to, tz, format, limit, cursor, interval, event, "
        "group_by",
    ),
    ("metrics", {}, "name", "missing_field", "must name a metric"),
    ("metrics", {"name": ""}, "name", "missing_field", "must name a metric"),
    ("metrics", {"name": "\0"}, "name", "invalid_character", NUL),
    (
        "metrics",
        {"name": "m", "agg": "median"},
        "agg",
        "invalid_value",
        "must be avg, min, max, sum, count, rate, p50, p90, p95 or p99",
    ),
    *(
        ("metrics", {"name": "m", "tags": tags}, "tags", "invalid_value", NO_TAGS)
        for tags in ("host", ":a", "host:a,region")
    ),
    ("metrics", {"name": "m", "tags": "host:\0"}, "tags", "invalid_character", NUL),
    ("metrics", {"name": "m", "tags": f"host:{'a' * 196}"}, "tags", "too_long", LONG),
    *(
        ("metrics", {"name": "m", field: text}, field, "invalid_value", TELLING.format(word))
        for field, text, word in (
            ("group_by", "user", "user"),
            ("group_by", "customer_id", "customer"),
            ("tags", "region:eu,e-mail:a", "mail"),
        )
    ),
    ("metrics", {"name": "m", "node": "\0"}, "node", "invalid_character", NUL),
    ("metrics", {"name": "m", "group_by": "\0"}, "group_by", "invalid_character", NUL),
    (
        "daily",
        {"interval": "day"},
        "interval",
        "unknown_parameter",
        "is no parameter here. There are: from, to, tz, format",
    ),
    ("daily", {"from_": "now"}, "from", "invalid_timestamp", NO_TIME),
    ("nodes", {"format": "CSV"}, "format", "invalid_value", "must be json or csv"),
    (
        "nodes",
        {"node": "a"},
        "node",
        "unknown_parameter",
        "is no parameter here. There are: format",
    ),
]


@pytest.mark.parametrize(("what", "asked", "field", "code", "message"), WRONG)
def test_what_is_wrong_is_refused_by_name(
    service: Service,
    project: Project,
    what: str,
    asked: dict[str, Any],
    field: str,
    code: str,
    message: str,
) -> None:
    answer = ask(service, project, what, **asked)
    assert answer.status == 400
    assert answer.json == {
        "error": "Invalid payload",
        "code": code,
        "details": f"{field}: {message}",
        "errors": [{"field": field, "code": code, "message": message}],
    }


def test_months_are_few_and_kept_for_ever(service: Service, project: Project) -> None:
    answer = answered(service, project, "events", interval="month", from_="2000-01-01")
    assert len(answer["buckets"]) > 300


@pytest.mark.parametrize(
    ("module", "name", "most", "said"),
    [
        (parameters, "MOST_BUCKETS", {Level.DAY: 9}, "at most 9 days are answered at once"),
        (events, "MOST_READ", 30, "there are 4 groups, of 10 days each, and at most 30 numbers"),
    ],
)
def test_more_than_an_answer_may_cost_is_refused(
    service: Service,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    most: Any,
    said: str,
) -> None:
    pk, start = project_id(project), month() + 9 * DAY
    plant(project, *(Happened(start, range(9), name) for name in "abc"))
    monkeypatch.setattr(module, name, most)
    asked = f"from={start.date()}&to={(start + 10 * DAY).date()}&group_by=event"
    with pytest.raises(ValidationError) as refused:
        events.over_time(parameters.events(QueryDict(asked), pk))
    (problem,) = refused.value.detail["from"]  # type: ignore[call-overload, index]
    assert problem.code == "too_costly"
    assert said in problem


def test_what_lies_ahead_is_not_answered(service: Service, project: Project) -> None:
    for to in (TOMORROW, "9999-12-31T23:59:59Z"):
        answer = answered(service, project, "events", from_=today(), to=to)
        assert answer["to"] == f"{TOMORROW}T00:00:00Z"


@pytest.mark.parametrize(
    ("spelling", "first"),
    [
        ("{day}", "{day}T00:00:00+05:00"),
        ("{day}T03:00:00", "{day}T03:00:00+05:00"),
        ("{day}T03:00:00Z", "{day}T08:00:00+05:00"),
        ("{day}T03:00:00+03:00", "{day}T05:00:00+05:00"),
    ],
)
def test_times_without_an_offset_are_of_the_zone(
    service: Service, project: Project, spelling: str, first: str
) -> None:
    day = today(2).date()
    answer = answered(
        service, project, "events",
        interval="hour", tz="Asia/Tashkent", from_=spelling.format(day=day), to=today(),
    )  # fmt: skip
    assert answer["from"] == answer["buckets"][0] == first.format(day=day)
    assert answer["tz"] == "Asia/Tashkent"


def test_tags_may_be_several_parameters(service: Service, project: Project) -> None:
    headers = {"X-API-Key": project.secret_key}
    path = "/v1/query/metrics?name=m&tags=a:1&tags=b:2:3,c:4"
    assert service.request("GET", path, headers=headers).status == 200


def test_by_default_a_zones_months_are_those_whose_hours_are_all_there(
    service: Service, project: Project
) -> None:
    answer = answered(service, project, "events", interval="month", tz="Asia/Tashkent")
    buckets = [datetime.fromisoformat(bucket) for bucket in answer["buckets"]]
    assert {(bucket.day, bucket.hour) for bucket in buckets} == {(1, 0)}
    assert 2 <= len(buckets) <= 4
    assert buckets[0] >= today(90)


# --- who may ask ---

PATHS = ("events", "daily", "nodes", "metrics?name=m")


def get(service: Service, path: str, headers: dict[str, str]) -> Answer:
    return service.request("GET", f"/v1/query/{path}", headers=headers)


@pytest.mark.parametrize("path", PATHS)
def test_only_secret_keys_in_headers_may_ask(service: Service, project: Project, path: str) -> None:
    refused = get(service, path, {"X-API-Key": project.ingest_key})
    assert (refused.status, refused.json["code"]) == (403, "wrong_scope")
    refused = get(service, path, {})
    assert (refused.status, refused.json["code"]) == (401, "missing_key")
    separator = "&" if "?" in path else "?"
    assert get(service, f"{path}{separator}key={project.secret_key}", {}).status == 401
    assert get(service, path, {"Authorization": f"Bearer {project.secret_key}"}).status == 200


@pytest.mark.parametrize("path", PATHS)
def test_asking_is_limited_by_the_key(service: Service, project: Project, path: str) -> None:
    answer = get(service, path, {"X-API-Key": project.secret_key})
    assert answer.headers["ratelimit-policy"].startswith('"query.key";q=')


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_changed_by_asking(service: Service, project: Project, path: str) -> None:
    headers = {"X-API-Key": project.secret_key}
    answer = service.request("POST", f"/v1/query/{path}", headers=headers)
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")


def test_an_hour_more_or_less_in_the_zone_is_still_whole(
    service: Service, project: Project
) -> None:
    """Where summer time ends there is a day of 25 hours."""
    start = month(1)
    answer = ask(service, project, "metrics", name="m", tz="Europe/Vienna", from_=start)
    assert answer.status == 200, answer.text
    edges = answer.json["buckets"]
    assert all(edge[11:19] == "00:00:00" for edge in edges)
    assert len(edges) >= (today() - start - 2 * HOUR).days
