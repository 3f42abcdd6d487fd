"""Events by the hour, day and month: what is counted, of whom, and by what."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from aggregation import event_rollups, marks
from aggregation.models import Dimension, EventDay, EventHour, EventMonth, Kind, Level
from tests.aggregation.rolling import HOUR, counts, event, hashed, hour, roll_up, rolling, store
from tests.harness import Project, Service
from tests.ingest.traces import project_id


@pytest.fixture(autouse=True)
def in_a_transaction(service: Service) -> Iterator[None]:
    with rolling():
        yield


def test_events_people_and_sessions_are_counted_by_name(project: Project) -> None:
    store(
        project,
        event("a", subject=hashed(1), session=hashed(11)),
        event("a", subject=hashed(1), session=hashed(12)),
        event("b", subject=hashed(2), session=hashed(13)),
        event("b", session=hashed(14)),
        event("b"),
    )
    roll_up()
    expected = {("", ""): (5, 3, 4), ("event", "a"): (2, 1, 2), ("event", "b"): (3, 2, 2)}
    for table in (EventHour, EventDay, EventMonth):
        assert counts(project, table) == expected


def test_a_dimension_counts_by_its_values(project: Project) -> None:
    pk = project_id(project)
    Dimension.objects.create(project_id=pk, name="version", path="client_version")
    Dimension.objects.create(project_id=pk, name="plugin", path="properties.a.b", event="load")
    store(
        project,
        event("load", client_version="1.0", properties=b'{"a":{"b":"Gate"}}', subject=hashed(1)),
        event("load", client_version="1.0", properties=b'{"a":{"b":7}}', subject=hashed(2)),
        event("load", properties=b'{"a":1}', subject=hashed(2)),
        event("stop", client_version="2.0", properties=b'{"a":{"b":"Gate"}}', subject=hashed(2)),
    )
    roll_up()
    found = counts(project)
    assert {key[1]: value[0] for key, value in found.items() if key[0] == "version"} == {
        "1.0": 2, "2.0": 1, "(none)": 1,
    }  # fmt: skip
    assert {key[1]: value[0] for key, value in found.items() if key[0] == "plugin"} == {
        "Gate": 1, "7": 1, "(none)": 1,
    }  # fmt: skip


def test_too_many_values_are_counted_together(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_rollups, "MOST_EVENTS", 2)
    store(project, *(event(name, subject=hashed(n)) for n, name in enumerate("aaabbcd")))
    roll_up()
    assert counts(project) == {
        ("", ""): (7, 7, 0),
        ("event", "a"): (3, 3, 0),
        ("event", "b"): (2, 2, 0),
        ("event", "(other)"): (2, 2, 0),
    }


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_slices_of_an_hour_add_up(
    project: Project, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(event_rollups, "SLICE_EVENTS", most)
    moments = [hour()] * 3 + [hour() + timedelta(minutes=n) for n in (1, 1, 2, 59)]
    store(project, *(event("a", at, subject=hashed(n % 2)) for n, at in enumerate(moments)))
    store(project, event("a", hour() - timedelta(microseconds=1)), event("a", hour() + HOUR))
    roll_up(Level.HOUR)
    found = EventHour.objects.filter(project_id=project_id(project), dimension="")
    assert [row.count for row in found.order_by("bucket")] == [1, 7, 1]
    assert found.get(bucket=hour()).people == 2


def test_late_events_make_their_hour_anew(project: Project) -> None:
    store(project, event("a", hour(30)), event("a", hour(2)))
    roll_up()
    assert counts(project, EventMonth)["", ""][0] <= 2
    store(project, event("b", hour(30)))
    assert marks.complete_until(project_id(project), Kind.EVENTS, Level.HOUR) == hour(30)
    roll_up(Level.HOUR)
    assert marks.complete_until(project_id(project), Kind.EVENTS, Level.HOUR) > hour(1)
    assert marks.complete_until(project_id(project), Kind.EVENTS, Level.DAY) < hour(29)
    roll_up()
    assert marks.complete_until(project_id(project), Kind.EVENTS, Level.MONTH) > hour(1)
    late = EventHour.objects.filter(project_id=project_id(project), bucket=hour(30))
    assert {(row.value, row.count) for row in late} == {("", 2), ("a", 1), ("b", 1)}
