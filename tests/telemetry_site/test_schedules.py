"""The page of the schedules: run one now, enable and disable one, change how often one runs."""

import contextlib
from collections.abc import Iterator
from uuid import uuid4

import kombu
import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import escape
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from telemetry_site import presence
from telemetry_site.admin import schedules
from telemetry_site.celery import SCHEDULES, app, broker_connection
from telemetry_site.redis_client import redis_client
from tests.harness import Service, free_port, wait_for
from tests.people import ROLES, logged_in

LIST = "/admin/django_celery_beat/periodictask/"
TASK = "ingest.tasks.expire_claims"
WORK_SECONDS = 30.0


@pytest.fixture
def schedule(service: Service) -> Iterator[PeriodicTask]:
    """One of this test's own, hourly."""
    hourly, _ = IntervalSchedule.objects.get_or_create(every=3600, period="seconds")
    row = PeriodicTask.objects.create(
        name=f"test {uuid4().hex}", task=TASK, interval=hourly, queue="default", expire_seconds=3600
    )
    yield row
    PeriodicTask.objects.filter(pk=row.pk).delete()


def press(client: Client, row: PeriodicTask, button: str) -> str:
    answer = client.post(f"{LIST}{row.pk}/{button}/", follow=True)
    assert answer.status_code == 200
    return answer.text


def change(client: Client, row: PeriodicTask, **fields: str) -> str:
    """What the page says after the form was saved; the row is read again."""
    answer = client.post(f"{LIST}{row.pk}/change/", fields, follow=True)
    assert answer.status_code == 200
    row.refresh_from_db()
    return answer.text


def done() -> int:
    with contextlib.closing(redis_client()) as client:
        return sum(worker.done.get(TASK, 0) for worker in presence.workers(client))


def test_the_list_says_what_each_is_for_and_how_often_it_runs(schedule: PeriodicTask) -> None:
    rows = PeriodicTask.objects
    for seeded in SCHEDULES:
        wait_for(rows.filter(name=seeded.name).exists, WORK_SECONDS, f"{seeded.name} to be seeded")
    text = logged_in("viewer").get(LIST).text
    for seeded in SCHEDULES:
        assert seeded.name in text
        assert escape(seeded.purpose) in text
        assert f"every {seeded.seconds} seconds" in text


def test_run_now_is_done_by_a_worker(schedule: PeriodicTask) -> None:
    before = done()
    text = press(logged_in("operator"), schedule, "run")
    assert f"{schedule.name} is sent to the queue default" in text
    wait_for(lambda: done() > before, WORK_SECONDS, "the task to be done")


def test_run_now_says_that_the_broker_is_away(
    schedule: PeriodicTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = broker_connection()

    def away() -> kombu.Connection:
        url = f"redis://127.0.0.1:{free_port()}/0"
        return app.connection_for_write(url, transport_options=usual.transport_options)

    monkeypatch.setattr(schedules, "broker_connection", away)
    assert "nothing was sent" in press(logged_in("operator"), schedule, "run")


def test_a_schedule_is_disabled_and_enabled_and_beat_is_told(schedule: PeriodicTask) -> None:
    client = logged_in("operator")
    told = PeriodicTasks.last_change()
    assert "is disabled" in press(client, schedule, "switch")
    schedule.refresh_from_db()
    assert not schedule.enabled
    assert PeriodicTasks.last_change() > told
    assert "is enabled" in press(client, schedule, "switch")
    schedule.refresh_from_db()
    assert schedule.enabled


def test_how_often_it_runs_is_changed_and_what_it_runs_never(schedule: PeriodicTask) -> None:
    change(
        logged_in("admin"), schedule, enabled="on", every="7", period="minutes",
        task="os.system", args='["x"]', queue="ingest", name="another",
    )  # fmt: skip
    assert (schedule.interval.every, schedule.interval.period) == (7, "minutes")
    assert schedule.expire_seconds == 420
    assert (schedule.task, schedule.args, schedule.queue) == (TASK, "[]", "default")
    assert schedule.name.startswith("test ")


@pytest.mark.parametrize(("every", "period"), [("0", "minutes"), ("", "minutes"), ("1", "years")])
def test_a_wrong_interval_is_refused(schedule: PeriodicTask, every: str, period: str) -> None:
    text = change(logged_in("operator"), schedule, enabled="on", every=every, period=period)
    assert "Please correct the error" in text
    assert schedule.interval.every == 3600


def test_a_crontab_is_shown_and_kept(schedule: PeriodicTask) -> None:
    crontab, _ = CrontabSchedule.objects.get_or_create(minute="7", hour="3")
    schedule.interval, schedule.crontab = None, crontab
    schedule.save()
    client = logged_in("operator")
    assert str(crontab) in client.get(f"{LIST}{schedule.pk}/change/").text
    change(client, schedule, enabled="")
    assert (schedule.crontab, schedule.enabled) == (crontab, False)


def test_what_is_gone_is_said(service: Service) -> None:
    gone = PeriodicTask(pk=2_000_000_000)
    assert "There is no such schedule" in press(logged_in("operator"), gone, "run")


@pytest.mark.parametrize("role", ROLES)
def test_buttons_are_for_those_who_may_press_them(schedule: PeriodicTask, role: str) -> None:
    client = logged_in(role)
    may = role in ("operator", "admin")
    text = client.get(LIST).text
    for button in ("run", "switch"):
        url = reverse(f"admin:django_celery_beat_periodictask_{button}", args=[schedule.pk])
        assert (url in text) is may
        assert client.get(url).status_code == 405
        assert client.post(url).status_code == (302 if may else 403)
    form = client.get(f"{LIST}{schedule.pk}/change/").text
    assert ('name="every"' in form) is may


@pytest.mark.parametrize("role", ROLES)
def test_nobody_adds_or_deletes_one(schedule: PeriodicTask, role: str) -> None:
    client = logged_in(role)
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{schedule.pk}/delete/", {"post": "yes"}).status_code == 403
