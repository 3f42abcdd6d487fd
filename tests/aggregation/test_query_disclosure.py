"""Attacks on withheld numbers over HTTP: whoever may ask anything, and as often as they like, can
compute no number of a small group."""

import csv
import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from aggregation.definitions import following, starting
from aggregation.models import Dimension, Level
from aggregation.queries.parameters import INTERVALS
from ingest.models import Project as Row
from tests.aggregation.planting import DAY, HOUR, Happened, answered, ask, plant, today
from tests.harness import Project, Service
from tests.ingest.traces import project_id

NAMES = "abcdef"
HOURS = [today(days, hour) for days in (3, 2, 1) for hour in (2, 3, 4)]
LEAVES = list(product(NAMES, HOURS))
THRESHOLD = 5
# Some are seen much, some hardly; many are hardly ever.
SIZES = (0, 0, 1, 2, 3, 4, 6, 9, 20)


class Attacker:
    """What can be computed of all that was answered, as sums of leaves: a name's hour each."""

    def __init__(self, seen: dict[tuple[str, datetime], frozenset[int]]) -> None:
        self.seen = seen
        self.counts = np.array([len(seen[leaf]) for leaf in LEAVES], float)
        self.known: list[np.ndarray] = []
        self.null: set[tuple[str | None, datetime, datetime]] = set()

    def covers(self, name: str | None, start: datetime, end: datetime) -> np.ndarray:
        return np.array(
            [name in (None, leaf) and start <= hour < end for leaf, hour in LEAVES], float
        )

    def people(self, sums: np.ndarray) -> set[int]:
        return set().union(
            *(self.seen[leaf] for leaf, there in zip(LEAVES, sums, strict=True) if there)
        )

    def learn(self, name: str | None, start: datetime, end: datetime, count: int | None) -> None:
        """Take in a number; it is checked, too."""
        sums = self.covers(name, start, end)
        people = self.people(sums)
        if count is None:
            self.null.add((name, start, end))
            return
        assert count == sums @ self.counts
        assert not people or len(people) >= THRESHOLD
        self.known.append(sums)

    def computes(self, sums: np.ndarray) -> bool:
        if not self.known:
            return not sums.any()
        _, sizes, rows = np.linalg.svd(np.array(self.known), full_matrices=False)
        basis = rows[sizes > 1e-9]
        return float(np.abs(sums - basis.T @ (basis @ sums)).max()) < 1e-9

    def small(self) -> Iterator[tuple[str | None, datetime, datetime]]:
        """The cells that must not be computed: hours and days of a name, and of all names."""
        for name, hour in product((None, *NAMES), HOURS):
            day = hour.replace(hour=0)
            for start, end in ((hour, hour + HOUR), (day, day + DAY)):
                if 0 < len(self.people(self.covers(name, start, end))) < THRESHOLD:
                    yield name, start, end


def cells(answer: Any) -> Iterator[tuple[str | None, datetime, datetime, int | None]]:
    """Each number of an answer: of which name, from when, until when."""
    starts = [datetime.fromisoformat(bucket) for bucket in answer["buckets"]]
    level = INTERVALS[answer["interval"]]
    for group in answer["groups"]:
        for start, count in zip(starts, group["count"], strict=True):
            yield group["value"], start, following(level, start), count


@pytest.fixture(params=range(4))
def seen(
    service: Service, project: Project, request: pytest.FixtureRequest
) -> dict[tuple[str, datetime], frozenset[int]]:
    """Who was seen where, and it is planted."""
    random = np.random.default_rng(request.param)
    found = {
        leaf: frozenset(random.choice(40, random.choice(SIZES), replace=False).tolist())
        for leaf in LEAVES
    }
    plant(project, *(Happened(hour, who, name) for (name, hour), who in found.items() if who))
    return found


def test_no_small_number_can_be_computed_of_all_answers(
    service: Service, project: Project, seen: dict[tuple[str, datetime], frozenset[int]]
) -> None:
    """The total less the others, days less their hours, months less days, overlapping ranges."""
    attacker = Attacker(seen)
    ranges = [
        (HOURS[0], today()),
        (HOURS[0] + DAY, today()),
        (HOURS[3], HOURS[5]),
        (today(3), today(1)),
    ]
    for interval, (start, end) in product(INTERVALS, ranges):
        asked = {"interval": interval, "from_": start, "to": end, "limit": 10}
        for more in ({}, {"group_by": "event"}, *({"event": name} for name in NAMES)):
            answer = answered(service, project, "events", **asked, **more)
            name = more.get("event")
            for value, *bucket, count in cells(answer):
                attacker.learn(name or value, *bucket, count)
    assert len(attacker.known) > 50
    assert attacker.null
    exposed = [cell for cell in attacker.small() if attacker.computes(attacker.covers(*cell))]
    assert not exposed


def test_a_number_is_the_same_whatever_is_asked_beside_it(
    service: Service, project: Project, seen: dict[tuple[str, datetime], frozenset[int]]
) -> None:
    told: dict[Any, set[int | None]] = {}
    for start, end in ((HOURS[0], today()), (HOURS[1], HOURS[2]), (HOURS[4], HOURS[8])):
        for name in NAMES:
            for interval in ("hour", "day"):
                answer = answered(
                    service, project, "events",
                    event=name, interval=interval, from_=start, to=end,
                )  # fmt: skip
                for _, *bucket, count in cells(answer):
                    told.setdefault((name, *bucket), set()).add(count)
    assert {len(counts) for counts in told.values()} == {1}


@pytest.mark.parametrize("zone", ["Etc/GMT-1", "Etc/GMT+3", "Asia/Tashkent"])
def test_a_zones_days_are_what_its_hours_tell(
    service: Service,
    project: Project,
    seen: dict[tuple[str, datetime], frozenset[int]],
    zone: str,
) -> None:
    span = {"from_": today(4), "to": today(), "group_by": "event", "tz": zone}
    days = answered(service, project, "events", **span)
    start, end = days["from"], days["to"]
    hours = answered(
        service, project, "events",
        interval="hour", **span | {"from_": start, "to": end},
    )  # fmt: skip
    released: dict[tuple[str | None, str], list[int | None]] = {}
    for name, hour, _, count in cells(hours):
        released.setdefault((name, hour.date().isoformat()), []).append(count)
    for group in days["groups"]:
        for day, count, people, withheld in zip(
            days["buckets"], group["count"], group["people"], group["withheld"], strict=True
        ):
            told = released[group["value"], day[:10]]
            assert withheld == told.count(None)
            assert (count or 0) == sum(number or 0 for number in told)
            assert people is None or not withheld
    assert days["withheld"]["cells"] == hours["withheld"]["cells"]


def test_csv_has_what_json_has(
    service: Service, project: Project, seen: dict[tuple[str, datetime], frozenset[int]]
) -> None:
    asked = {"interval": "hour", "group_by": "event", "from_": HOURS[0], "to": today()}
    body = answered(service, project, "events", **asked)
    table = ask(service, project, "events", format="csv", **asked)
    names, *rows = csv.reader(io.StringIO(table.text))
    assert names == ["time", "event", "count", "people", "sessions", "bytes", "withheld"]
    expected = [
        [bucket.replace("Z", "+00:00"), group["value"],
         *("" if group[name][at] is None else str(group[name][at]) for name in names[2:])]
        for group in body["groups"]
        for at, bucket in enumerate(body["buckets"])
    ]  # fmt: skip
    assert rows == expected
    withheld = body["withheld"]
    assert table.headers["telemetry-withheld"] == (
        f"groups={withheld['groups']}, cells={withheld['cells']}"
    )


def test_the_total_less_the_others_of_a_dimension(service: Service, project: Project) -> None:
    pk, start = project_id(project), today(1)
    Dimension.objects.create(project_id=pk, name="version", path="client_version")
    Dimension.objects.create(project_id=pk, name="plugin", path="properties.p", event="load")
    plant(
        project,
        Happened(start, range(30), "load", {"version": "1", "plugin": "x"}),
        Happened(start, range(20), "load", {"version": "2", "plugin": "y"}),
        Happened(start, range(3), "load", {"version": "3", "plugin": "z"}),
        Happened(start, range(9), "stop", {"version": "1"}),
    )
    span = {"from_": start, "to": start + DAY}
    for asked in ({"group_by": "version"}, {"group_by": "plugin", "event": "load"}):
        answer = answered(service, project, "events", **asked, **span)
        assert len(answer["groups"]) == 1, "the small one and the least of the others aren't told"
        assert answer["withheld"] == {"groups": 2, "cells": 2}


def test_names_of_withheld_groups_are_told_nowhere(service: Service, project: Project) -> None:
    start, name = today(1), "only-alice-does-this"
    plant(project, Happened(start, range(30), "a"), Happened(start, range(2), name))
    for asked in ({"limit": 1}, {"format": "csv"}, {"tz": "Asia/Tashkent"}, {"interval": "month"}):
        answer = ask(service, project, "events", group_by="event", from_=start, **asked)
        assert answer.status == 200
        assert name not in answer.text + str(answer.headers)


def test_another_projects_key_sees_nothing(service: Service, project: Project) -> None:
    row, keys = Row.objects.create_with_keys(f"other {uuid4().hex}")
    other = Project(row.slug, keys["ingest"], keys["secret"], row.signing_secret)
    start = today(1)
    plant(project, Happened(start, range(30), "a"))
    span = {"from_": start, "to": start + timedelta(days=1)}
    empty = answered(service, other, "events", group_by="event", **span)
    assert (empty["groups"], empty["withheld"]) == ([], {"groups": 0, "cells": 0})
    assert answered(service, other, "events", event="a", **span)["groups"][0]["count"] == [0]
    assert answered(service, other, "daily", **span)["days"][0]["total_events"] == 0


def test_a_formula_is_no_formula_in_a_spreadsheet(service: Service, project: Project) -> None:
    start = today(1)
    names = ["=1+1", "+1", "-1", "@a", "\tb", 'a,"b"\r\nc', "fine"]
    plant(project, *(Happened(start, range(9), name) for name in names))
    answer = ask(
        service, project, "events",
        group_by="event", format="csv", from_=start, to=start + DAY,
    )  # fmt: skip
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))[1:]
    assert sorted(row[1] for row in rows) == sorted(
        name if name in ('a,"b"\r\nc', "fine") else f"'{name}" for name in names
    )
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert starting(Level.DAY, datetime.fromisoformat(rows[0][0])) == start
