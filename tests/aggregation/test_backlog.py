"""How operators see that counts are behind."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from aggregation import marks
from aggregation.definitions import starting
from aggregation.models import Build, DirtyMark, Kind, Level
from telemetry_site import checks
from telemetry_site.celery import app
from telemetry_site.monitoring import figures
from tests.aggregation.placing import rolled_up
from tests.aggregation.rolling import event, hour, store
from tests.harness import Project, Service, wait_for
from tests.ingest.sending import batch, send, settled
from tests.ingest.traces import project_id
from tests.ingest.waiting import storing
from tests.telemetry_site.scraping import scrape

MINUTE = timedelta(minutes=1)


@pytest.fixture
def nothing_waits(service: Service) -> Iterator[None]:
    """In a transaction of this test's own."""
    with storing():
        DirtyMark.objects.all().delete()
        yield


def mark(project: Project, level: Level, bucket: datetime, ago: timedelta) -> None:
    DirtyMark.objects.create(
        project_id=project_id(project),
        kind=Kind.EVENTS,
        level=level,
        bucket=starting(level, bucket),
        marked_at=timezone.now() - ago,
    )


def found() -> tuple[bool, str]:
    finding = checks.CHECKS["rollups"].look()
    return finding.ok, finding.detail


@pytest.mark.usefixtures("nothing_waits")
class TestLateness:
    def test_what_is_clean_is_not_late(self) -> None:
        assert found() == (True, "none is late")
        assert set(marks.backlog().values()) == {marks.Backlog(0, 0.0)}

    @pytest.mark.parametrize(
        ("level", "ago", "late"),
        [
            (Level.HOUR, 14 * MINUTE, False),
            (Level.HOUR, 16 * MINUTE, True),
            (Level.DAY, 44 * MINUTE, False),
            (Level.DAY, 46 * MINUTE, True),
            (Level.MONTH, 46 * MINUTE, True),
        ],
    )
    def test_a_bucket_is_late_once_a_worker_should_have_made_it(
        self, project: Project, level: Level, ago: timedelta, late: bool
    ) -> None:
        mark(project, level, hour(24 * 40), ago)
        ok, detail = found()
        assert ok != late
        assert (f"{level.name.lower()}s: 1 dirty, for " in detail) == late

    @pytest.mark.parametrize("level", Level)
    def test_an_open_bucket_is_never_late(self, project: Project, level: Level) -> None:
        mark(project, level, hour(0), timedelta(hours=2))
        assert found() == (True, "none is late")
        assert marks.backlog()[level] == marks.Backlog(1, 0.0)

    def test_a_bucket_that_waits_for_its_turn_is_not_late(self, project: Project) -> None:
        mark(project, Level.HOUR, hour(5), 20 * MINUTE)
        whole: dict[str, Any] = {
            "project_id": project_id(project), "kind": Kind.EVENTS, "level": Level.HOUR,
            "bucket": hour(5), "built_at": timezone.now() - 30 * MINUTE,
        }  # fmt: skip
        Build.objects.create(**whole, seconds=29 * 60 / marks.PATIENCE)
        assert found() == (True, "none is late")
        assert 50 < marks.backlog()[Level.HOUR].seconds < 100

    def test_the_figures_say_the_same(self, project: Project) -> None:
        store(project, event("a", hour(3)), event("a", hour(4)))
        told = {(name, *labels): value for name, labels, value in figures._rollups()}
        assert told["telemetry_rollups_dirty", "hour"] == 2
        assert 0 <= told["telemetry_rollups_oldest_seconds", "hour"] < 60
        assert told["telemetry_rollups_dirty", "day"] == 0

    def test_a_long_list_is_looked_at_in_part(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(marks, "MOST_MARKS", 2)
        for ago in (9, 8, 7):
            mark(project, Level.HOUR, hour(ago), ago * MINUTE)
        waiting = marks.backlog()[Level.HOUR]
        assert waiting.buckets == 2
        assert 9 * 60 <= waiting.seconds < 10 * 60


def test_what_a_worker_makes_is_counted(service: Service, project: Project) -> None:
    def made() -> float:
        return scrape(service).value("telemetry_rollups_total", level="hour")

    before = made()
    answer = send(service, project, batch())
    settled(service, project, answer.json["batch_id"])
    app.send_task("aggregation.tasks.roll_up_hours", queue="rollup")
    wait_for(lambda: made() > before, 90, "the worker to make the hour")
    rolled_up(project)
