"""What is past its time goes, and nothing before it is rolled up."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from aggregation import retention, rollups
from aggregation.definitions import Bucket, starting
from aggregation.models import DirtyMark, EventDay, EventMonth, Kind, Level, Policy
from ingest import erasing, marks, partitions
from ingest.models import Event
from telemetry_site.alone import alone_at
from tests.aggregation.placing import DAY, long_ago, put, rolled_up, sums
from tests.aggregation.rolling import event, hashed
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import batch, send, settled
from tests.ingest.sending import event as sent
from tests.ingest.traces import project_id
from tests.ingest.waiting import partition_exists, storing

TODAY = timezone.now().date()
PAST = settings.EVENT_RETENTION_DAYS + 20


@contextmanager
def held(project: Project, at: datetime, level: Level = Level.HOUR) -> Iterator[None]:
    """Nobody makes a bucket meanwhile."""
    start = starting(level, at)
    with alone_at(
        rollups.ROLLING_UP, Bucket(level, start, project_id(project), Kind.EVENTS)
    ) as alone:
        assert alone
        yield


def keep(project: Project, **days: int) -> None:
    Policy.objects.create(project_id=project_id(project), **days)


def apply() -> list[str]:
    return list(retention.apply())


def told(project: Project) -> list[str]:
    """What a dry run says of a project."""
    out = StringIO()
    call_command("retention", "--dry-run", stdout=out)
    return [line for line in out.getvalue().splitlines() if project.project in line]


def there(project: Project) -> list[str]:
    found = Event.objects.filter(project_id=project_id(project)).order_by("occurred_at")
    return [one.name for one in found]


# --- partitions ---


def test_a_dirty_day_is_dropped_once_it_is_rolled_up(service: Service, project: Project) -> None:
    at = long_ago(PAST)
    name = f"partition ingest_event_{at:%Y%m%d}"
    out = StringIO()
    with held(project, at):
        put(project, event("a", at, subject=hashed(1)))
        partitions.maintain()
        assert there(project) == ["a"]
        call_command("retention", "--dry-run", stdout=out)
        assert f"{name}: stays: it is still to be stored or rolled up" in out.getvalue()
    rolled_up(project)
    assert sums(project, EventDay)["", ""] == (1, 1)
    call_command("retention", "--dry-run", stdout=out)
    assert f"{name}: goes" in out.getvalue()
    partitions.maintain()
    assert not partition_exists("ingest_event", at.date())
    assert not partition_exists("aggregation_eventhour", at.date())
    assert sums(project, EventDay)["", ""] == (1, 1)


def test_hours_stay_until_their_day_is_made(service: Service, project: Project) -> None:
    at = long_ago(PAST + 1)
    with held(project, at, Level.DAY):
        put(project, event("a", at))
        left = DirtyMark.objects.filter(project_id=project_id(project))
        wait_for(
            lambda: rollups.roll_up([Level.HOUR], 60) or left.get().level == Level.DAY,
            30,
            "the hour to be made",
        )
        partitions.maintain()
        assert not partition_exists("ingest_event", at.date())
        assert sums(project)["", ""] == (1, 0)
    rolled_up(project)
    partitions.maintain()
    assert not partition_exists("aggregation_eventhour", at.date())
    assert sums(project, EventMonth)["", ""] == (1, 0)


def test_a_day_stays_while_somebody_in_it_is_still_to_be_looked_for(
    service: Service, project: Project
) -> None:
    at = long_ago(PAST + 2)
    name = f"ingest_event_{at:%Y%m%d}"
    put(project, event("a", at, subject=hashed(1)))
    rolled_up(project)
    with storing():
        marks.append_person(project_id(project), hashed(2))
        assert (name, True) in partitions.past_their_time()
        marks.append_person(project_id(project), hashed(1))
        assert (name, False) in partitions.past_their_time()
    assert (name, True) in partitions.past_their_time()
    partitions.maintain()


# --- projects that keep less ---


def test_a_project_keeps_less_than_the_others(service: Service, project: Project) -> None:
    other = service.create_project(f"other of {project.project[-20:]}")
    for one in (project, other):
        put(one, event("old", long_ago(5)), event("kept", long_ago(4)), event("new", long_ago(1)))
        rolled_up(one)
    keep(project, event_days=4)
    assert told(project) == [f"1 events of {TODAY - 5 * DAY}, {project.project}: goes"]
    assert there(project) == ["old", "kept", "new"], "it was a dry run"
    apply()
    assert there(project) == ["kept", "new"]
    assert there(other) == ["old", "kept", "new"]
    assert sums(project)["", ""] == (2, 0)
    assert sums(project, EventDay)["", ""] == sums(other)["", ""] == (3, 0)
    assert told(project) == []


def test_what_arrives_behind_that_changes_no_count(service: Service, project: Project) -> None:
    put(project, event("old", long_ago(5)))
    rolled_up(project)
    keep(project, event_days=4)
    apply()
    answer = send(service, project, batch(sent(timestamp=long_ago(5).isoformat())))
    settled(service, project, answer.json["batch_id"])
    rolled_up(project)
    assert sums(project, EventDay)["", ""] == (1, 0)
    assert len(there(project)) == 1
    apply()
    assert there(project) == []


def test_nothing_is_deleted_before_it_is_rolled_up(service: Service, project: Project) -> None:
    put(project, event("older", long_ago(7)))
    rolled_up(project)
    keep(project, event_days=4)
    with held(project, long_ago(6)):
        put(project, event("dirty", long_ago(6)), event("clean", long_ago(5)))
        kept = f"stays: {TODAY - 6 * DAY} is still to be rolled up"
        assert told(project)[:2] == [
            f"1 events of {TODAY - 7 * DAY}, {project.project}: goes",
            f"1 events of {TODAY - 6 * DAY}, {project.project}: {kept}",
        ]
        assert f"{TODAY - 5 * DAY}, {project.project}: stays" in told(project)[2]
        apply()
        assert there(project) == ["dirty", "clean"]
    rolled_up(project)
    apply()
    assert there(project) == []
    assert sums(project, EventDay)["", ""] == (3, 0)


def test_days_stay_while_a_person_is_still_to_be_looked_for(
    service: Service, project: Project
) -> None:
    put(project, event("old", long_ago(9), subject=hashed(1)))
    rolled_up(project)
    keep(project, event_days=4)
    with storing():
        marks.append_person(project_id(project), hashed(1))
        (line,) = told(project)
        assert line.endswith(f"stays: {TODAY - 9 * DAY} is still to be rolled up")
        apply()
        assert there(project) == ["old"]
    apply()
    assert there(project) == []


def test_a_killed_run_is_finished_by_the_next(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "CHUNK", 1)
    put(project, *(event(name, long_ago(9)) for name in "abc"))
    rolled_up(project)
    keep(project, event_days=4)
    run = retention.apply()
    while len(there(project)) == 3:
        next(run)
    run.close()
    assert len(there(project)) == 2
    rollups_of = [project_id(project), Kind.EVENTS]
    assert retention.is_sealed(Bucket(Level.HOUR, long_ago(9), *rollups_of))
    call_command("rollup", "--from", f"{TODAY - 9 * DAY}", "--to", f"{TODAY - 8 * DAY}",
                 "--project", project.project, stdout=StringIO())  # fmt: skip
    apply()
    assert there(project) == []
    assert sums(project) == {}
    assert sums(project, EventDay)["", ""] == (3, 0)


def test_the_command_says_what_it_did(service: Service, project: Project) -> None:
    put(project, event("old", long_ago(6)))
    rolled_up(project)
    keep(project, event_days=1)
    said = service.manage("retention").splitlines()
    assert f"1 rows of ingest_event of {TODAY - 6 * DAY}, {project.project}" in said
    assert said[-1] == "What is past its time is gone."


# --- days, and what is sealed ---


def test_days_past_their_time_are_deleted_but_not_before_their_month_is_made(
    service: Service, project: Project
) -> None:
    pk = project_id(project)
    last = starting(Level.DAY, long_ago(settings.DAY_RETENTION_DAYS))
    days = [last, last - DAY, last - 60 * DAY]
    for start in days:
        EventDay.objects.create(
            project_id=pk, dimension="", bucket=start, value="", count=1, bytes=1, people=0,
            sessions=0, people_sketch=b"", sessions_sketch=b"",
        )  # fmt: skip
    month = starting(Level.MONTH, days[2])
    with held(project, month, Level.MONTH):
        DirtyMark.objects.create(
            project_id=pk, kind="events", level=2, bucket=month, marked_at=timezone.now()
        )
        apply()
        left = EventDay.objects.filter(project_id=pk).order_by("bucket")
        assert [row.bucket for row in left] == [days[2], days[0]]
    DirtyMark.objects.filter(project_id=pk).delete()
    apply()
    assert [row.bucket for row in left.all()] == [days[0]]


@pytest.mark.parametrize(
    ("kind", "level", "ago", "sealed"),
    [
        (Kind.EVENTS, Level.HOUR, 80, False),
        (Kind.EVENTS, Level.HOUR, 300, True),
        (Kind.EVENTS, Level.DAY, 300, True),
        (Kind.EVENTS, Level.MONTH, 300, False),
        (Kind.EVENTS, Level.MONTH, settings.DAY_RETENTION_DAYS + 40, True),
        (Kind.POINTS, Level.HOUR, 1, False),
        (Kind.POINTS, Level.HOUR, 40, True),
        (Kind.POINTS, Level.DAY, 3, False),
        (Kind.POINTS, Level.DAY, 40, True),
    ],
)
def test_what_lost_what_it_is_made_from_is_sealed(
    service: Service, project: Project, kind: Kind, level: Level, ago: int, sealed: bool
) -> None:
    partitions.ensure(partitions.EVENTS, TODAY - 80 * DAY)
    start = starting(level, long_ago(ago))
    assert retention.is_sealed(Bucket(level, start, project_id(project), kind)) == sealed


def test_an_hour_before_a_projects_first_day_is_sealed(service: Service, project: Project) -> None:
    Policy.objects.create(project_id=project_id(project), events_from=TODAY - 4 * DAY)
    for level in (Level.HOUR, Level.DAY):
        sealed = [
            retention.is_sealed(Bucket(level, long_ago(ago), project_id(project), Kind.EVENTS))
            for ago in (5, 4)
        ]
        assert sealed == [True, False]
