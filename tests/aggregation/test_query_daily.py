"""`GET /v1/query/daily`: the daily table of source 000."""

from tests.aggregation.planting import DAY, HOUR, Happened, answered, ask, month, plant, today
from tests.harness import Project, Service


def test_days_come_latest_first_with_events_users_and_bytes(
    service: Service, project: Project
) -> None:
    start = today(3)
    plant(
        project,
        Happened(start, range(10)),
        Happened(start + HOUR, range(5, 15)),
        Happened(start + 2 * DAY, range(8)),
    )
    answer = answered(service, project, "daily", from_=start, to=start + 3 * DAY)
    assert answer["days"] == [
        {"date": f"{(start + n * DAY).date()}", "total_events": events, "unique_users": users,
         "total_bytes": 10 * events}
        for n, events, users in ((2, 8, 8), (1, 0, 0), (0, 20, 15))
    ]  # fmt: skip
    assert answer["withheld"] == {"groups": 0, "cells": 0}


def test_by_default_it_is_the_last_thirty_days(service: Service, project: Project) -> None:
    days = answered(service, project, "daily")["days"]
    assert [day["date"] for day in days] == [f"{today(n).date()}" for n in range(30)]


def test_days_of_few_people_are_withheld(service: Service, project: Project) -> None:
    start = today(1)
    plant(project, Happened(start, range(3)))
    (day,) = answered(service, project, "daily", from_=start, to=start + DAY)["days"]
    assert day == {
        "date": f"{start.date()}", "total_events": None, "unique_users": None, "total_bytes": None
    }  # fmt: skip


def test_the_table_as_csv(service: Service, project: Project) -> None:
    start = month() + 9 * DAY
    sizes = (30, 10, 3)
    plant(project, *(Happened(start + n * DAY, range(size)) for n, size in enumerate(sizes)))
    answer = ask(service, project, "daily", format="csv", from_=start, to=start + 3 * DAY)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="daily.csv"'
    assert answer.text.split("\r\n") == [
        "date,total_events,unique_users,total_bytes",
        f"{(start + 2 * DAY).date()},,,",
        f"{(start + DAY).date()},,,",
        f"{start.date()},30,30,300",
        "",
    ]
