"""The page of the violations: what is counted, of whom, what it leads to, and what it costs."""

import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingest import refusals, tasks, violations
from ingest.models import ApiKey, RateLimitViolation, ViolationSum
from ingest.models import Project as Row
from ingest.ratelimits import hashed_caller, key_of
from ingest.refusals import SPANS, Asked, Latest
from tests.harness import Project, Service
from tests.ingest.sending import batch, send
from tests.ingest.traces import project_id
from tests.people import ROLES, logged_in

PAGE = "/admin/ingest/ratelimitviolation/"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def refuse(
    project: Project | None, ago: timedelta = timedelta(0), **columns: Any
) -> RateLimitViolation:
    """A row as the flush writes it, its hour summed up."""
    columns = {"rule": "events.user", "key": "ab" * 8, "network": "203.0.113.0/24", "count": 1,
               **columns}  # fmt: skip
    minute = (timezone.now() - ago).replace(second=0, microsecond=0)
    row = RateLimitViolation.objects.create(
        minute=minute, project_id=project_id(project) if project else None, **columns
    )
    violations._sum(int(minute.timestamp()) // 3600)
    return row


def page_of(query: str = "", role: str = "viewer", **headers: str) -> str:
    answer = logged_in(role).get(f"{PAGE}?{query}", **headers)  # type: ignore[arg-type]
    assert answer.status_code == 200, query
    return answer.text


def of(project: Project, **asked: Any) -> Asked:
    return Asked(project=project_id(project), **asked)


def bars(page: str) -> dict[str, list[int]]:
    """What the chart draws."""
    found = re.search(r'id="refused-data"[^>]*>(.*?)</script>', page)
    assert found is not None
    return {one["label"]: one["data"] for one in json.loads(found[1])["datasets"]}


# --- what is counted ---


@pytest.mark.parametrize(("span", "number"), [("hour", 60), ("day", 24), ("week", 28)])
def test_refused_are_drawn_by_rule_over_time(
    service: Service, project: Project, span: str, number: int
) -> None:
    width = SPANS[span].bar
    refuse(project, count=5)
    refuse(project, 2 * width, count=3)
    refuse(project, 2 * width, count=7, rule="browser.ip")
    refuse(project, SPANS[span].length + width, count=100)
    drawn = bars(page_of(f"span={span}&project={project_id(project)}"))
    assert {rule: len(counts) for rule, counts in drawn.items()} == {
        "browser.ip": number, "events.user": number,
    }  # fmt: skip
    # A minute may have ended since.
    assert sum(drawn["events.user"][-2:]) == 5
    assert sum(drawn["events.user"][-4:-2]) == 3
    assert sum(drawn["browser.ip"]) == 7


def test_bars_begin_with_their_unit_of_time_and_end_now() -> None:
    for name, span in SPANS.items():
        begins = Asked(span=name).bars
        assert begins[-1] <= timezone.now() < begins[-1] + span.bar + MINUTE
        assert begins[-1] - begins[0] == span.length - span.bar
        assert {int(begin.timestamp()) % span.bar.total_seconds() for begin in begins} == {0}


def test_rules_and_projects_are_summed_up_the_most_first(
    service: Service, project: Project
) -> None:
    for key, count in (("aa", 2), ("bb", 3)):
        refuse(project, key=key * 8, count=count)
    refuse(project, rule="browser.ip", count=50)
    for span in SPANS:
        assert refusals.by_rule_and_project(of(project, span=span), 10) == [
            ("browser.ip", project_id(project), 50), ("events.user", project_id(project), 5),
        ]  # fmt: skip


def test_hour_is_the_sum_of_its_minutes_however_often_it_is_flushed(
    service: Service, project: Project
) -> None:
    Row.objects.filter(slug=project.project).update(rate_limits={"events.user": "1/d"})
    for _ in range(4):
        send(service, project, batch(), {"X-User-ID": "ada"})
    for _ in range(3):
        tasks.flush_violations()
    minutes = RateLimitViolation.objects.filter(project__slug=project.project)
    hours = ViolationSum.objects.filter(project__slug=project.project)
    assert sum(row.count for row in hours) == sum(row.count for row in minutes) >= 3
    assert {row.hour.minute for row in hours} == {0}


def test_sums_are_forgotten_with_their_minutes(service: Service, project: Project) -> None:
    keep = timedelta(days=settings.VIOLATION_RETENTION_DAYS)
    for ago in (keep - 2 * HOUR, keep + 2 * HOUR):
        refuse(project, ago)
    violations.flush()
    assert ViolationSum.objects.filter(project__slug=project.project).count() == 1


def test_callers_are_those_refused_most(service: Service, project: Project) -> None:
    for number in range(3):
        refuse(project, key=f"{number:016x}", count=10 * number + 1)
        refuse(project, 3 * MINUTE, key=f"{number:016x}", count=number)
    refuse(project, key="f" * 16, network="198.51.100.0/24", count=1)
    refuse(project, key="f" * 16, network="203.0.113.0/24", count=30)
    found = Latest(of(project)).callers(3)
    assert [(one["key"], one["total"]) for one in found] == [
        ("f" * 16, 31), ("2".zfill(16), 23), ("1".zfill(16), 12),
    ]  # fmt: skip
    page = page_of(f"project={project_id(project)}")
    assert page.index("several") < page.index("203.0.113.0/24")


def test_more_than_can_be_looked_through_is_said(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "LOOKED_THROUGH", 5)
    bar = Asked(span="week").bars[-6]
    for number in range(9):
        refuse(project, timezone.now() - bar - number * MINUTE, key="c" * 16)
    latest = Latest(of(project, span="week", bar=bar))
    assert latest.since is not None
    assert len(latest.rows(100)) <= 5
    # The sums leave nothing out.
    assert refusals.by_rule_and_project(of(project, span="week"), 1)[0][2] == 9
    assert "There is more than can be looked through" in page_of("span=week")


# --- what is asked ---


def test_page_is_narrowed_by_project_rule_caller_and_bar(
    service: Service, project: Project
) -> None:
    refuse(project, key="a" * 16, count=1)
    row = refuse(project, 2 * HOUR, key="b" * 16, count=1)
    ago = timezone.now() - row.minute
    refuse(project, ago, key="c" * 16, rule="browser.ip")
    number = project_id(project)
    hour = f"{row.minute:%Y-%m-%dT%H:00}"
    for asked, shown in {
        f"span=day&project={number}": {"a", "b", "c"},
        f"project={number}": {"a"},
        f"span=day&project={number}&rule=events.user": {"a", "b"},
        f"span=day&project={number}&caller={'c' * 16}": {"c"},
        f"span=day&project={number}&bar={hour}": {"b", "c"},
    }.items():
        page = page_of(asked)
        assert {key for key in "abc" if f">{key * 16}</a>" in page} == shown, asked


def test_refusals_without_a_project_have_a_choice_of_their_own(service: Service) -> None:
    refuse(None, rule="auth.ip", key="9" * 16)
    page = page_of("project=0")
    assert "9" * 16 in page
    assert "no project" in page


@pytest.mark.parametrize(
    "query",
    ["span=year", "project=x", "project=9999999999", "rule=none", "bar=now", "bar=2026-13-01T00:00",
     "project=-1"],
)  # fmt: skip
def test_nonsense_is_refused(service: Service, query: str) -> None:
    assert logged_in("viewer").get(f"{PAGE}?{query}").status_code == 400


def test_page_without_refusals_says_how_they_get_here(service: Service, project: Project) -> None:
    page = page_of(f"project={project_id(project)}")
    assert "Nobody was refused in the last hour" in page
    assert "<canvas" not in page


# --- what it leads to ---


def test_caller_that_is_a_key_is_called_by_its_name(service: Service, project: Project) -> None:
    key = ApiKey.objects.get(project__slug=project.project, scope="secret")
    hashed = hashed_caller("query.key", project_id(project), key_of(key.pk))
    refuse(project, rule="query.key", key=hashed)
    page = page_of(f"project={project_id(project)}", "operator")
    assert f">{key}</a>" in page
    assert f"/admin/ingest/block/add/?key={key.pk}" in page


def test_others_lead_to_their_network_by_the_number_of_a_row(
    service: Service, project: Project
) -> None:
    row = refuse(project)
    page = page_of(f"project={project_id(project)}", "operator")
    assert f"/admin/ingest/block/add/?violation={row.pk}" in page
    assert f"/admin/ingest/project/{project_id(project)}/limits/?rule=events.user" in page
    form = logged_in("operator").get(f"/admin/ingest/block/add/?violation={row.pk}").text
    assert 'value="203.0.113.0/24"' in form
    assert not re.search(r"href=\"[^\"]*203\.0\.113", page)


def test_nothing_leads_nowhere(service: Service, project: Project) -> None:
    """A rule without a limit of the project's own, a caller who comes from nowhere."""
    refuse(project, rule="block", network="", key="others")
    page = page_of(f"project={project_id(project)}", "operator")
    assert "all others" in page
    assert "Change limit" not in page
    assert "Block…" not in page


@pytest.mark.parametrize("role", ROLES)
def test_role_sees_the_buttons_of_what_it_may(
    service: Service, project: Project, role: str
) -> None:
    refuse(project)
    page = page_of(f"project={project_id(project)}", role)
    may = role in {"operator", "admin"}
    assert ("Change limit" in page) == may
    assert ("Block…" in page) == may


# --- what it costs, and what it depends on ---


def test_queries_do_not_grow_with_what_is_found(service: Service, project: Project) -> None:
    refuse(project, rule="query.key")
    client = logged_in("operator")
    query = f"{PAGE}?project={project_id(project)}"
    with CaptureQueriesContext(connection) as few:
        assert client.get(query).status_code == 200
    for number in range(60):
        refuse(project, (number % 7) * MINUTE, key=f"{number:016x}", rule="query.key")
        refuse(project, (number % 7) * MINUTE, key=f"{number:016x}", rule="browser.ip")
    with CaptureQueriesContext(connection) as many:
        assert client.get(query).status_code == 200
    assert len(many) == len(few)


def test_page_needs_no_redis(service: Service, project: Project) -> None:
    refuse(project)
    with override_settings(REDIS="redis://127.0.0.1:1/0"):
        assert "203.0.113.0/24" in page_of(f"project={project_id(project)}")


def test_script_is_not_led_out_of_its_element(service: Service, project: Project) -> None:
    """What stands in the page's address comes back escaped."""
    refuse(project)
    told = page_of(f"project={project_id(project)}&caller=</script><b>")
    assert "<b>" not in told
    assert html.escape("</script><b>") in told


def test_bar_in_the_address_is_utc() -> None:
    from ingest.admin.violations import _bar

    assert _bar("2026-11-21T10:30") == datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
