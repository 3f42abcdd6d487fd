"""Violations of the rate limits: counted cheaply, written down once, and never whose they were."""

import itertools
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connection
from django.test import RequestFactory, override_settings
from django.utils import timezone

from ingest import counters as counters_module
from ingest import tasks, violations
from ingest.counters import CALLERS_A_MINUTE, KEEP_SECONDS, MINUTES, Counter, violations_key
from ingest.models import Project as Row
from ingest.models import RateLimitViolation
from ingest.ratelimits import Caller, Limiter, RateLimited
from telemetry_site.celery import SCHEDULES, app
from tests.harness import Project, Service, free_port
from tests.ingest.sending import batch, send
from tests.ingest.traces import project_id

DAY = timedelta(days=1)
ADDRESS = "203.0.113.77"

# Minutes in which nobody else counts: each test that wants one gets its own.
_quiet_minutes = itertools.count(int(time.time()) // 60 - 120, -3)
SetMinute = Callable[[int], None]


def limit(project: Project, **rates: str) -> None:
    row = Row.objects.get(slug=project.project)
    row.rate_limits = {name.replace("_", "."): rate for name, rate in rates.items()}
    row.save(update_fields=["rate_limits"])


def rows(project: Project) -> list[RateLimitViolation]:
    found = RateLimitViolation.objects.filter(project__slug=project.project)
    return list(found.order_by("minute", "rule", "-count"))


def total(project: Project) -> int:
    return sum(row.count for row in rows(project))


def post(service: Service, project: Project, address: str = ADDRESS, user: str = "ada") -> int:
    headers = {"X-Forwarded-For": address, "X-User-ID": user}
    return send(service, project, batch(), headers).status


def caller(project: Project, address: str = ADDRESS, user: str = "ada") -> Caller:
    """Somebody who asks in this process."""
    request = RequestFactory().get("/", REMOTE_ADDR=address)
    overrides = {"events.user": "1/999d", "events.ip": "1/999d"}
    return Caller(request, project_id(project), overrides=overrides, user=user)


def refused(someone: Caller, rule: str = "events.user", times: int = 1) -> None:
    """Have a caller refused so often."""
    done = 0
    while done < times:
        try:
            Limiter(someone, [rule]).check()
        except RateLimited:
            done += 1


@pytest.fixture
def minute(service: Service, monkeypatch: pytest.MonkeyPatch) -> int:
    """What this process counts now, it counts in this minute (since 1970) of its own."""
    quiet = next(_quiet_minutes)
    set_minute(monkeypatch, quiet)
    return quiet


def set_minute(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    clock = SimpleNamespace(time=lambda: number * 60.0 + 7, sleep=time.sleep)
    monkeypatch.setattr(counters_module, "time", clock)


# --- what is written down ---


def test_refused_caller_is_written_down(service: Service, project: Project) -> None:
    limit(project, events_user="2/d")
    before = timezone.now()
    statuses = [post(service, project) for _ in range(5)]
    assert statuses == [200, 200, 429, 429, 429]
    tasks.flush_violations()
    found = rows(project)
    assert {(row.rule, row.network) for row in found} == {("events.user", "203.0.113.0/24")}
    assert total(project) == 3
    for row in found:
        assert re.fullmatch(r"[0-9a-f]{16}", row.key)
        assert before - timedelta(minutes=1) < row.minute <= timezone.now()
        assert (row.minute.second, row.minute.microsecond) == (0, 0)


def test_who_keeps_to_the_limits_is_not(service: Service, project: Project) -> None:
    limit(project, events_user="5/d")
    for _ in range(5):
        post(service, project)
    tasks.flush_violations()
    assert rows(project) == []


def test_each_rule_that_is_violated_has_its_row(service: Service, project: Project) -> None:
    limit(project, events_user="1/d", events_ip="1/d", events_key="5/d")
    assert [post(service, project) for _ in range(2)] == [200, 429]
    tasks.flush_violations()
    assert [row.rule for row in rows(project)] == ["events.ip", "events.user"]


def test_failed_authentications_are_no_projects(service: Service) -> None:
    address = "203.0.114.9"
    for _ in range(45):
        service.request("POST", "/v1/events", b"", {"X-Forwarded-For": address})
    tasks.flush_violations()
    found = RateLimitViolation.objects.filter(rule="auth.ip", network="203.0.114.0/24")
    assert found
    assert {row.project_id for row in found} == {None}


# --- of whom it is ---


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (ADDRESS, "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("unknown", ""),
    ],
)
def test_row_holds_a_coarse_network_and_no_address(
    service: Service, project: Project, address: str, network: str
) -> None:
    limit(project, events_user="1/d")
    for _ in range(3):
        post(service, project, address, "ada-lovelace")
    tasks.flush_violations()
    assert {row.network for row in rows(project)} == {network}
    kept = repr(list(RateLimitViolation.objects.filter(project__slug=project.project).values()))
    for secret in (address, "2001:db8:1:2", "ada-lovelace", project.ingest_key.split("_", 2)[2]):
        assert secret not in kept


def test_same_caller_has_the_same_key(
    project: Project, minute: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (minute, minute + 1):
        set_minute(monkeypatch, number)
        for user in ("ada", "bob"):
            refused(caller(project, user=user), times=2)
    violations.flush()
    first, second = rows(project)[:2], rows(project)[2:]
    assert {row.key for row in first} == {row.key for row in second}
    assert len({row.key for row in first}) == 2
    assert {row.count for row in rows(project)} == {2}


def test_same_caller_has_another_key_for_another_rule_or_project(
    project: Project, minute: int
) -> None:
    row, _ = Row.objects.create_with_keys(f"other {minute}-{project.project}"[:50])
    other = Project(row.slug, "", "", "")
    for each in (project, other):
        for rule in ("events.user", "events.ip"):
            refused(caller(each), rule)
    violations.flush()
    assert len({row.key for row in rows(project) + rows(other)}) == 4


def test_key_cannot_be_guessed_without_the_instances_secret(project: Project, minute: int) -> None:
    refused(caller(project))
    with override_settings(PEPPER=b"p" * 32):
        refused(caller(project))
    violations.flush()
    assert len({row.key for row in rows(project)}) == 2


# --- how often, whatever happens ---


def test_flushed_twice_it_says_the_same(project: Project, minute: int) -> None:
    refused(caller(project), times=7)
    for _ in range(3):
        violations.flush()
        (row,) = rows(project)
        assert row.count == 7
        assert row.minute == datetime.fromtimestamp(minute * 60, UTC)


def test_what_comes_after_a_flush_is_added(project: Project, minute: int) -> None:
    """In the same minute, be it the one that is or one that is over."""
    for expected in (2, 4, 6):
        refused(caller(project), times=2)
        violations.flush()
        assert [row.count for row in rows(project)] == [expected]


def test_flush_that_fails_loses_nothing(
    project: Project, minute: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(caller(project), times=3)

    def fail(_: list[RateLimitViolation]) -> None:
        raise DatabaseError

    with monkeypatch.context() as patched:
        patched.setattr(violations, "_write", fail)
        with pytest.raises(DatabaseError):
            violations.flush()
    violations.flush()
    assert total(project) == 3


def test_flushes_at_once_count_once(project: Project, minute: int) -> None:
    count(project, 700)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: flush_in_a_thread(), range(8)))
    assert {row.count for row in rows(project)} == {1}
    assert len(rows(project)) == 700


def flush_in_a_thread() -> None:
    try:
        violations.flush()
    finally:
        connection.close()


def test_flood_is_one_row(service: Service, project: Project) -> None:
    limit(project, events_ip="1/d")
    assert post(service, project) == 200
    with ThreadPoolExecutor(8) as threads:
        statuses = set(threads.map(lambda _: post(service, project), range(300)))
    assert statuses == {429}
    tasks.flush_violations()
    found = rows(project)
    assert total(project) == 300
    # One a minute, and the flood may have met the end of one.
    assert len(found) == len({row.minute for row in found}) <= 2


def count(project: Project, callers: int) -> None:
    """Have so many callers refused, once each, in one go."""
    number = project_id(project)
    fields = [f"{number}|events.ip|k{index}|10.0.0.0/24" for index in range(callers)]
    counted = [Counter(f"test:{number}:{field}", 30, 0, field) for field in fields]
    assert counters_module.counters.count(counted) is not None


def test_more_callers_than_are_told_apart_are_summed_up(project: Project, minute: int) -> None:
    count(project, CALLERS_A_MINUTE + 100)
    # One who is known already goes on being told apart.
    count(project, 1)
    violations.flush()
    found = {row.key: row for row in rows(project)}
    assert len(found) == CALLERS_A_MINUTE + 1
    others = found.pop("others")
    assert (others.rule, others.network, others.count) == ("events.ip", "", 100)
    assert total(project) == CALLERS_A_MINUTE + 101
    assert found["k0"].count == 2


def test_others_are_summed_up_by_project_and_rule(project: Project, minute: int) -> None:
    count(project, CALLERS_A_MINUTE)
    row, _ = Row.objects.create_with_keys(f"other {minute} {project.project}"[:50])
    other = Project(row.slug, "", "", "")
    for each, rule in ((project, "events.user"), (other, "events.user"), (other, "events.ip")):
        refused(caller(each), rule, times=2)
    violations.flush()
    summed = [row for row in rows(project) + rows(other) if row.key == "others"]
    assert sorted((row.project_id == project_id(project), row.rule) for row in summed) == [
        (False, "events.ip"),
        (False, "events.user"),
        (True, "events.user"),
    ]
    assert {row.count for row in summed} == {2}


def test_minute_is_read_no_more_once_it_is_written_down(project: Project, minute: int) -> None:
    redis = counters_module.counters._redis
    refused(caller(project))
    violations.flush()
    assert not redis.sismember(MINUTES, minute)
    assert 0 < redis.ttl(violations_key(minute)) <= KEEP_SECONDS


def test_minute_that_is_not_over_is_read_again(service: Service, project: Project) -> None:
    refused(caller(project))
    violations.flush()
    (row,) = rows(project)
    number = int(row.minute.timestamp()) // 60
    assert counters_module.counters._redis.sismember(MINUTES, number)
    refused(caller(project))
    violations.flush()
    assert total(project) == 2


# --- how long ---


def test_rows_are_forgotten_past_their_retention(service: Service, project: Project) -> None:
    keep = settings.VIOLATION_RETENTION_DAYS * DAY
    ages = {"old": keep + DAY / 24, "young": keep - DAY / 24}
    for key, age in ages.items():
        RateLimitViolation.objects.create(
            minute=timezone.now() - age,
            project_id=project_id(project),
            rule="events.ip",
            key=key,
            count=1,
        )
    violations.flush()
    assert [row.key for row in rows(project)] == ["young"]
    with override_settings(VIOLATION_RETENTION_DAYS=1):
        young = RateLimitViolation.objects.filter(project__slug=project.project)
        young.update(minute=timezone.now() - 2 * DAY)
        violations.flush()
    assert rows(project) == []


# --- by whom ---


def test_flush_is_scheduled() -> None:
    app.loader.import_default_modules()
    (schedule,) = [each for each in SCHEDULES if each.task == tasks.flush_violations.name]
    assert schedule.task in app.tasks
    assert schedule.seconds <= 60
    assert schedule.seconds < KEEP_SECONDS
    assert schedule.queue in app.conf.task_queues


def test_task_waits_for_another_run_while_redis_is_away(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(REDIS=f"redis://127.0.0.1:{free_port()}/0"):
        with caplog.at_level(logging.WARNING, "ingest.tasks"):
            tasks.flush_violations()
        with pytest.raises(tasks.REDIS_ERRORS):
            violations.flush()
    assert "violations are not written down" in caplog.text


def test_caller_has_one_row_a_minute_also_where_no_project_is_known(service: Service) -> None:
    """SQL would call two rows without a project distinct."""
    row = {"minute": timezone.now(), "rule": "auth.ip", "key": "k", "count": 1}
    RateLimitViolation.objects.create(**row)
    with pytest.raises(IntegrityError):
        RateLimitViolation.objects.create(**row)
