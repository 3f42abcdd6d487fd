"""Rollups put straight into their tables, as they are made of events that never were."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import numpy as np
from django.utils import timezone

from aggregation.definitions import ALL, EVENT, TABLES, Bucket, starting
from aggregation.event_rollups import Tallies
from aggregation.models import Kind, Level
from aggregation.quantiles import keys_of
from aggregation.tallies import Name, Tally
from aggregation.tallies import Tallies as MetricTallies
from ingest import partitions
from tests.harness import Answer, Project, Service
from tests.ingest.traces import project_id

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def today(days_ago: int = 0, hour: int = 0) -> datetime:
    """A moment of a day not long ago, in UTC."""
    midnight = timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - days_ago * DAY + hour * HOUR


def month(ago: int = 1) -> datetime:
    """The first moment of a month before this one: its days may all be asked for."""
    first = today().replace(day=1)
    for _ in range(ago):
        first = (first - DAY).replace(day=1)
    return first


@dataclass(frozen=True)
class Happened:
    """Events of one hour and name, one of each of these people; each is 10 bytes."""

    at: datetime
    people: Iterable[int]
    name: str = "e"
    values: dict[str, str] = field(default_factory=dict)


def plant(project: Project, *happened: Happened) -> None:
    """Hours, days and months of what happened."""
    pk = project_id(project)
    for level in Level:
        buckets: dict[datetime, Tallies] = defaultdict(Tallies)
        for one in happened:
            tallies = buckets[starting(level, one.at)]
            for dimension, value in {ALL: "", EVENT: one.name, **one.values}.items():
                tally = tallies.of(dimension, value)
                people = list(one.people)
                tally.count += len(people)
                tally.bytes += 10 * len(people)
                tally.people.add(hashes(people))
                tally.sessions.add(hashes(people))
        table: Any = TABLES[Kind.EVENTS, level]
        for start, tallies in _with_a_table(level, buckets):
            rows = tallies.rows(Bucket(level, start, pk, Kind.EVENTS))
            table.objects.bulk_create(rows, batch_size=500)


@dataclass(frozen=True)
class Measured:
    """Values of one series, measured one after the other within an hour, of these people or of a
    machine."""

    at: datetime
    values: Sequence[float]
    node: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    people: Iterable[int] = ()
    name: str = "m"
    kind: str = "gauge"
    cumulative: bool = False

    @property
    def of(self) -> Name:
        return Name(self.name, self.kind, self.cumulative)

    @property
    def series(self) -> bytes:
        return self.of.digest(self.node, json.dumps(self.tags, sort_keys=True))

    @property
    def tally(self) -> Tally:
        values = np.array(self.values, np.float64)
        tally = Tally(self.node, self.tags, count=len(values))
        tally.people.add(hashes(self.people))
        last_at = self.at + (len(values) - 1) * timedelta(seconds=1)
        if self.cumulative or self.kind == "gauge":
            tally.last, tally.last_at = float(values[-1]), last_at
        if self.cumulative:
            tally.first, tally.first_at = float(values[0]), self.at
            grown = np.diff(values)
            tally.increase = float(np.where(grown < 0, values[1:], grown).sum())
            return tally
        tally.sum = float(values.sum())
        if self.kind in ("gauge", "histogram"):
            tally.min, tally.max = float(values.min()), float(values.max())
            tally.quantiles.unite(*np.unique(keys_of(values), return_counts=True))
        return tally


def plant_points(project: Project, *measured: Measured) -> None:
    """Hours, days and months of what was measured."""
    pk = project_id(project)
    for level in Level:
        buckets: dict[datetime, MetricTallies] = defaultdict(MetricTallies)
        for one in sorted(measured, key=lambda one: one.at):
            buckets[starting(level, one.at)].follow(one.of, one.series, one.tally)
        table: Any = TABLES[Kind.POINTS, level]
        for start, tallies in _with_a_table(level, buckets):
            tallies.fold()
            rows = tallies.rows(Bucket(level, start, pk, Kind.POINTS))
            table.objects.bulk_create(rows, batch_size=500)


def _with_a_table(level: Level, buckets: dict[datetime, Any]) -> Iterable[tuple[datetime, Any]]:
    """Of older days there are no hours, as in production some time later."""
    oldest = today(partitions.DAYS_BEHIND)
    return [item for item in buckets.items() if level > Level.HOUR or item[0] >= oldest]


def hashes(people: Iterable[int]) -> bytes:
    """What stands for people in sketches."""
    return b"".join((person * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") for person in people)


def ask(service: Service, project: Project, what: str, **parameters: Any) -> Answer:
    """`GET /v1/query/…` with the project's secret key; `from_` is `from`."""
    named = {name.rstrip("_"): _text(value) for name, value in parameters.items()}
    query = f"?{urlencode(named)}" if named else ""
    headers = {"X-API-Key": project.secret_key}
    return service.request("GET", f"/v1/query/{what}{query}", headers=headers)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def answered(service: Service, project: Project, what: str, **parameters: Any) -> Any:
    """The body of an answer that is one."""
    answer = ask(service, project, what, **parameters)
    assert answer.status == 200, answer.text
    return answer.json
