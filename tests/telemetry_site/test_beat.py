"""The schedule is seeded once and then the operator's; one beat runs at a time."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from telemetry_site import beat
from telemetry_site.celery import QUEUES, SCHEDULES, Schedule, app
from telemetry_site.models import Lease
from tests.harness import Service, wait_for

take, release = Lease.objects.take, Lease.objects.release


@pytest.fixture
def name(service: Service) -> Iterator[str]:
    """The name of a lease, or a schedule, of this test's own."""
    name = f"test {uuid4().hex}"
    yield name
    Lease.objects.filter(name=name).delete()
    PeriodicTask.objects.filter(name=name).delete()


# --- the table of schedules ---


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
def test_a_schedule_names_a_task_that_exists_and_a_queue_that_is_worked_on(
    schedule: Schedule,
) -> None:
    app.loader.import_default_modules()
    assert schedule.task in app.tasks
    assert schedule.queue in QUEUES
    assert schedule.seconds > 0
    assert schedule.purpose.endswith(".")


def test_schedules_have_names_of_their_own() -> None:
    assert len({schedule.name for schedule in SCHEDULES}) == len(SCHEDULES)


def test_every_task_of_ours_is_scheduled() -> None:
    app.loader.import_default_modules()
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == {schedule.task for schedule in SCHEDULES}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
def test_the_running_beat_has_seeded_it(service: Service, schedule: Schedule) -> None:
    rows = PeriodicTask.objects.filter(name=schedule.name)
    row = wait_for(rows.first, 30, f"beat to seed {schedule.name!r}")
    assert (row.task, row.queue, row.enabled) == (schedule.task, schedule.queue, True)
    assert (row.interval.every, row.interval.period) == (schedule.seconds, "seconds")
    assert row.expire_seconds == schedule.seconds


# --- seeding ---


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch, name: str) -> Schedule:
    """The only schedule that is seeded. Nothing runs it: its task is never due."""
    schedule = Schedule(name, "ingest.tasks.expire_claims", 7_777_777, "A test.")
    monkeypatch.setattr(beat, "SCHEDULES", (schedule,))
    beat.seed_schedules()
    return schedule


def _row(schedule: Schedule) -> PeriodicTask:
    row: PeriodicTask = PeriodicTask.objects.get(name=schedule.name)
    return row


def test_seeding_again_adds_nothing(schedule: Schedule) -> None:
    before = _row(schedule)
    beat.seed_schedules()
    assert PeriodicTask.objects.filter(name=schedule.name).count() == 1
    assert _row(schedule).date_changed == before.date_changed


def test_what_an_operator_changed_stays(schedule: Schedule) -> None:
    hourly, _ = IntervalSchedule.objects.get_or_create(every=8_888_888, period="seconds")
    changed: dict[str, Any] = {"enabled": False, "interval": hourly, "queue": "ingest"}
    PeriodicTask.objects.filter(name=schedule.name).update(**changed)
    beat.seed_schedules()
    row = _row(schedule)
    assert {field: getattr(row, field) for field in changed} == changed


def test_what_an_operator_deleted_comes_back(schedule: Schedule) -> None:
    _row(schedule).delete()
    beat.seed_schedules()
    assert _row(schedule).enabled


def test_beats_that_seed_at_once_make_one_of_each(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seconds = 9_999_991  # no other schedule's, so that the interval is made too
    seeded = Schedule(name, "ingest.tasks.expire_claims", seconds, "A test.")
    monkeypatch.setattr(beat, "SCHEDULES", (seeded,))
    barrier = threading.Barrier(8)

    def seed(_: int) -> None:
        try:
            barrier.wait(10)
            beat.seed_schedules()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(seed, range(8)))
    assert PeriodicTask.objects.filter(name=name).count() == 1
    assert IntervalSchedule.objects.filter(every=seconds).count() == 1


# --- leases ---


def test_a_free_lease_is_taken_and_kept_from_others(name: str) -> None:
    assert take(name, "one", 60)
    assert not take(name, "two", 60)
    assert Lease.objects.get(name=name).holder == "one"


def test_its_holder_renews_it(name: str) -> None:
    take(name, "one", 5)
    first = Lease.objects.get(name=name).until
    assert take(name, "one", 60)
    assert Lease.objects.get(name=name).until > first + timedelta(seconds=50)


def test_it_holds_for_as_long_as_was_asked(name: str) -> None:
    before = timezone.now()
    take(name, "one", 60)
    until = Lease.objects.get(name=name).until - timedelta(seconds=60)
    assert before <= until <= timezone.now()


def test_an_expired_lease_is_taken_over_and_its_old_holder_is_refused(name: str) -> None:
    take(name, "one", 60)
    Lease.objects.filter(name=name).update(until=timezone.now() - timedelta(seconds=1))
    assert take(name, "two", 60)
    assert not take(name, "one", 60)


def test_a_released_lease_is_free_at_once(name: str) -> None:
    take(name, "one", 60)
    release(name, "one")
    assert take(name, "two", 60)


def test_only_its_holder_releases_it(name: str) -> None:
    take(name, "one", 60)
    release(name, "two")
    assert not take(name, "two", 60)


def test_leases_do_not_know_one_another(name: str) -> None:
    take(name, "one", 60)
    other = f"{name} too"
    assert take(other, "two", 60)
    Lease.objects.filter(name=other).delete()


@pytest.mark.parametrize("state", ["new", "expired"])
def test_of_many_that_ask_at_once_one_gets_it(name: str, state: str) -> None:
    if state == "expired":
        take(name, "old", -1)
    barrier = threading.Barrier(8)

    def ask(holder: str) -> bool:
        try:
            barrier.wait(10)
            return bool(take(name, holder, 60))
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(ask, [f"holder {number}" for number in range(8)]))
    assert got.count(True) == 1
    assert Lease.objects.get(name=name).holder == f"holder {got.index(True)}"


def test_one_beat_leads_and_the_other_waits(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(beat, "LEASE", name)
    first, second = (beat.SingleScheduler(app=app, lazy=True) for _ in range(2))
    first.holder, second.holder = "first", "second"
    first._lead(Lease.objects.take(name, first.holder, 60))
    second.tick()
    assert (first.leading, second.leading) == (True, False)
    Lease.objects.release(name, first.holder)
    second._lead(Lease.objects.take(name, second.holder, 60))
    assert second.leading
