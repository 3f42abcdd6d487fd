"""Days of private mode: drawn once, by the clock, within the budget, from clipped counts."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction

from aggregation import noise, releases, retention
from aggregation.clipping import Clipped
from aggregation.models import Mode, Policy, ReleasedDay, ReleasedName
from aggregation.noise import Drawn
from ingest import partitions
from privacy import restrictions
from telemetry_site.celery import app
from tests.aggregation.planting import answered
from tests.aggregation.releasing import LATEST, day, days, private, released
from tests.aggregation.rolling import event, hashed, rolling, store
from tests.harness import ROOT, Project, Service, wait_for
from tests.ingest.sending import accepted, batch, send, settled
from tests.ingest.sending import event as sent
from tests.ingest.traces import project_id

pytestmark = pytest.mark.usefixtures("service")
HOUR = timedelta(hours=1)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days without noise: what is drawn from is what is seen."""

    def shown(terms: Any, clipped: Clipped) -> Drawn:
        return Drawn(clipped.events, clipped.people, dict(clipped.names))

    monkeypatch.setattr(noise, "draw", shown)


def release(project: Project) -> None:
    """Draw what is due of one project."""
    policy = Policy.objects.get(pk=project_id(project))
    list(releases._release(policy))


def at(ago: int, hour: int = 12) -> datetime:
    on = day(ago)
    return datetime(on.year, on.month, on.day, hour, tzinfo=UTC)


def of(project: Project, ago: int = LATEST) -> tuple[int, int, dict[str, int]]:
    """What is released of a day: events, people, and events by name."""
    row = ReleasedDay.objects.get(project_id=project_id(project), day=day(ago))
    names = ReleasedName.objects.filter(project_id=project_id(project), day=day(ago))
    return row.events, row.people, dict(names.values_list("name", "events"))


# --- what is counted ---


@pytest.mark.usefixtures("exact")
def test_a_day_is_drawn_from_its_clipped_events(project: Project) -> None:
    with rolling():
        private(project, most_events=4, most_names=2)
        store(
            project,
            *(event("a", at(2, hour), subject=hashed(1)) for hour in range(24)),
            event("b", at(2), subject=hashed(2)),
            event("b", at(2), session=hashed(3)),
            event("b", at(2), subject=hashed(2), session=hashed(4)),
            # Another day's, and one that nobody is known of.
            event("b", at(1, 0), subject=hashed(5)),
            event("b", at(3, 23), subject=hashed(5)),
            event("b", at(2)),
        )
        release(project)
        assert of(project) == (4 + 2 + 1, 3, {"a": 2, "b": 2 + 1})


@pytest.mark.usefixtures("exact")
def test_slices_of_a_day_are_clipped_together(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "SLICE_EVENTS", 3)
    with rolling():
        private(project, most_events=10, most_names=1)
        events = [event("a", at(2, hour), subject=hashed(hour % 2)) for hour in range(24)]
        store(project, *events)
        release(project)
        assert of(project) == (20, 2, {"a": 20})


@pytest.mark.usefixtures("exact")
def test_who_is_erased_before_is_not_in_it_and_who_is_after_changes_nothing(
    project: Project,
) -> None:
    with rolling():
        private(project, since=3)
        for ago in (2, 3):
            store(project, *(event("a", at(ago), subject=hashed(one)) for one in (1, 2)))
        restrictions.suppress(project_id(project), hashed(1))
        release(project)
        assert of(project, 2) == of(project, 3) == (1, 1, {"a": 1})
        restrictions.suppress(project_id(project), hashed(2))
        release(project)
        assert of(project, 2) == (1, 1, {"a": 1})


@pytest.mark.usefixtures("exact")
def test_what_comes_after_a_day_is_drawn_is_not_in_it(project: Project) -> None:
    with rolling():
        private(project)
        release(project)
        store(project, event("a", at(2), subject=hashed(1)))
        release(project)
        assert of(project) == (0, 0, {})


def test_a_day_without_events_is_drawn_like_any_other(project: Project) -> None:
    with rolling():
        private(project, since=20, daily_epsilon=Decimal("0.1"))
        release(project)
        assert days(project) == [day(ago) for ago in range(20, LATEST - 1, -1)]
        drawn = ReleasedDay.objects.filter(project_id=project_id(project))
        # All of 19 zeros with noise of this scale: 10 ** -50.
        assert any(row.events for row in drawn)


# --- when ---


def test_days_are_drawn_so_long_after_their_end_and_none_from_before_the_mode(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rolling():
        private(project, since=5)
        monkeypatch.setattr(settings, "PRIVATE_DELAY_DAYS", 3)
        release(project)
        assert days(project) == [day(5), day(4)]
        monkeypatch.setattr(settings, "PRIVATE_DELAY_DAYS", 1)
        release(project)
        assert days(project) == [day(5), day(4), day(3), day(2)]


def test_a_day_whose_raw_data_is_gone_is_never_drawn(project: Project) -> None:
    with rolling():
        private(project, since=5, events_from=day(3))
        release(project)
        assert days(project) == [day(3), day(2)]


def test_a_project_in_threshold_mode_has_no_days(project: Project) -> None:
    with rolling():
        Policy.objects.create(project_id=project_id(project), private_from=day(5))
        list(releases.release())
        assert days(project) == []


# --- budget ---


def test_nothing_is_drawn_once_the_budget_is_spent(project: Project) -> None:
    with rolling():
        policy = private(
            project, since=10, daily_epsilon=Decimal("0.3"), lifetime_epsilon=Decimal(1)
        )
        release(project)
        assert days(project) == [day(10), day(9), day(8)], "a fourth would be 1.2"
        assert policy.spending.epsilon == Decimal("0.9")
        release(project)
        assert len(days(project)) == 3
        Policy.objects.filter(pk=policy.pk).update(lifetime_epsilon=Decimal("1.2"))
        release(project)
        assert days(project)[3:] == [day(7)]


def test_days_that_cost_less_fit_into_what_is_left(project: Project) -> None:
    with rolling():
        private(project, since=10, daily_epsilon=Decimal("0.7"), lifetime_epsilon=Decimal(1))
        release(project)
        Policy.objects.filter(pk=project_id(project)).update(daily_epsilon=Decimal("0.15"))
        release(project)
        rows = ReleasedDay.objects.filter(project_id=project_id(project)).order_by("day")
        assert [row.epsilon for row in rows] == [Decimal("0.70"), Decimal("0.15"), Decimal("0.15")]


@pytest.mark.parametrize(
    "change", [{"mode": Mode.THRESHOLD}, {"most_events": 21}, {"daily_epsilon": Decimal("0.5")}]
)
def test_terms_that_change_while_a_day_is_counted_are_not_mixed(
    project: Project, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with rolling():
        policy = private(project)
        counting: Callable[..., Clipped] = releases._clipped

        def changed(due: releases.Due) -> Clipped:
            Policy.objects.filter(pk=policy.pk).update(**change)
            return counting(due)

        monkeypatch.setattr(releases, "_clipped", changed)
        list(releases._release(policy))
        assert days(project) == []


# --- once ---


def test_two_workers_draw_a_day_once(project: Project) -> None:
    """Both have counted it before either has written it down; and others may be at it as well."""
    policy = private(project)
    due = releases.Due(policy.pk, day(), policy.terms)
    counted, counting = threading.Barrier(2, timeout=30), releases._clipped
    told: list[bool | None] = []

    def wait(one: releases.Due) -> Clipped:
        clipped = counting(one)
        counted.wait()
        return clipped

    def work() -> None:
        try:
            told.append(releases.draw(due))
        finally:
            connection.close()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(releases, "_clipped", wait)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert told.count(True) <= 1
    assert len(told) == 2
    assert days(project) == [day()]
    assert policy.spending.epsilon == policy.daily_epsilon


def test_a_day_can_not_be_written_down_twice(project: Project) -> None:
    with rolling():
        released(project, day(), 1, 1)
        with pytest.raises(IntegrityError), transaction.atomic():
            released(project, day(), 2, 2)


@pytest.mark.parametrize("table", ["aggregation_releasedday", "aggregation_releasedname"])
def test_what_is_released_can_neither_be_changed_nor_deleted_by_the_application(
    service: Service, table: str
) -> None:
    with service.database() as database:
        for statement in (f"UPDATE {table} SET events = 0", f"DELETE FROM {table}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                database.execute(statement)  # type: ignore[call-overload]


DYING = """
import os, signal, sys
import django
django.setup()
from aggregation import releases
from aggregation.models import Policy, ReleasedDay, ReleasedName
policy = Policy.objects.get(pk=int(sys.argv[1]))

def die(*_):
    assert ReleasedDay.objects.filter(project_id=policy.pk).exists()
    print("drawn", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

ReleasedName.objects.bulk_create = die
due = releases.Due(policy.pk, policy.private_from, policy.terms)
releases.draw(due)
"""


def test_a_worker_that_dies_before_the_commit_has_released_and_spent_nothing(
    project: Project,
) -> None:
    policy = private(project, since=1)  # So that the service doesn't draw it meanwhile.
    died = subprocess.run(
        [sys.executable, "-c", DYING, str(policy.pk)],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert died.stdout == "drawn\n"
    assert (days(project), policy.spending.epsilon) == ([], 0)
    assert releases.draw(releases.Due(policy.pk, day(1), policy.terms))
    assert (days(project), policy.spending.epsilon) == ([day(1)], 1)


def test_from_events_that_clients_send_to_the_answer(service: Service, project: Project) -> None:
    """By the service's own worker. The noise is so little that chance is 10 ** -9 at most."""
    noon = f"{day()}T12:00:00Z"
    events = [sent("loaded", timestamp=noon, user_id=f"u{n % 60}") for n in range(240)]
    content = batch(*events, sent("rare", timestamp=noon, user_id="u0"))
    settled(service, project, accepted(send(service, project, content)))
    private(project, daily_epsilon=Decimal(10))
    app.send_task("aggregation.tasks.release_days", queue="rollup")
    wait_for(lambda: days(project), 60, "the worker to draw the day")
    asked = {"from_": day(), "to": day(1)}
    (total,) = answered(service, project, "daily", **asked)["days"]
    assert total["total_events"] == pytest.approx(241, abs=110)
    assert total["unique_users"] == pytest.approx(60, abs=12)
    (loaded,) = answered(service, project, "events", group_by="event", **asked)["groups"]
    assert loaded["value"] == "loaded"
    assert loaded["count"][0] == pytest.approx(240, abs=110)


def test_events_are_kept_until_their_day_is_drawn() -> None:
    """What a project may keep at least; see `Policy.clean`."""
    with rolling():
        last_drawn = day(settings.PRIVATE_DELAY_DAYS + 1)
        kept = Policy(event_days=settings.PRIVATE_DELAY_DAYS + 1)
        since = retention._wanted_from(kept, retention.Kind.EVENTS)
        assert since is not None
        assert since <= last_drawn
        assert partitions.exists(partitions.EVENTS, last_drawn)


def test_the_web_does_not_load_what_draws() -> None:
    loading = "import sys, telemetry_site.wsgi, telemetry_site.urls, aggregation.tasks"
    asked = f"{loading}; from django.contrib import admin; print('opendp' in sys.modules)"
    code = f"import django; django.setup(); {asked}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr
