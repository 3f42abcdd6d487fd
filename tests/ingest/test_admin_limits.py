"""A project's own limits in the admin: shown, changed, refused, reset, and at once in force."""

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.test import Client

from ingest.admin.projects import budget
from ingest.models import Project as Row
from ingest.rules import PROJECTS_OWN
from tests.harness import Project, Service
from tests.ingest.sending import batch, send
from tests.ingest.traces import project_id
from tests.people import ROLES, logged_in


def page_of(project: Project) -> str:
    return f"/admin/ingest/project/{project_id(project)}/limits/"


def put(client: Client, project: Project, rule: str, rate: str) -> str:
    """What the page says after a rate was set."""
    answer = client.post(page_of(project), {"rule": rule, "rate": rate}, follow=True)
    assert answer.status_code == 200
    return answer.text


def own(project: Project) -> dict[str, str]:
    found: dict[str, str] = Row.objects.get(slug=project.project).rate_limits
    return found


def post(service: Service, project: Project) -> int:
    return send(service, project, batch(), {"X-User-ID": "ada"}).status


def hear(service: Service) -> None:
    """Have the process ask the counters, which tell it that projects have changed."""
    assert service.request("POST", "/v1/events", b"").status == 401


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        ("10/m", "10 in 1 minute"),
        ("100/60s", "100 in 1 minute"),
        ("30/m,1000/h", "30 in 1 minute and 1,000 in 1 hour"),
        ("5/90s", "5 in 90 seconds"),
        ("1/2d", "1 in 2 days"),
        ("0", "no limit"),
    ],
)
def test_rate_is_said_in_words(rate: str, words: str) -> None:
    assert budget(rate) == words


def test_each_rule_is_shown_with_default_own_and_what_holds(
    service: Service, project: Project
) -> None:
    Row.objects.filter(slug=project.project).update(rate_limits={"events.user": "7/h"})
    page = logged_in("viewer").get(page_of(project)).text
    for rule in PROJECTS_OWN:
        assert f"<strong>{rule}</strong>" in page
        assert settings.RATE_LIMITS[rule] in page
    assert "7 in 1 hour" in page
    assert "auth.ip" not in page


def test_limit_holds_once_the_process_has_heard_of_it(service: Service, project: Project) -> None:
    client = logged_in("operator")
    assert post(service, project) == 200
    told = put(client, project, "events.user", "2/d")
    assert "events.user of" in told
    assert "is 2 in 1 day" in told
    hear(service)
    assert [post(service, project) for _ in range(3)] == [200, 200, 429]
    put(client, project, "events.user", "0")
    hear(service)
    assert post(service, project) == 200


def test_limit_is_reset_to_the_instances(service: Service, project: Project) -> None:
    client = logged_in("operator")
    put(client, project, "events.user", "2/d")
    put(client, project, "events.ip", "3/d")
    assert "as everywhere" in put(client, project, "events.user", "")
    assert own(project) == {"events.ip": "3/d"}
    put(client, project, "events.user", "")
    assert own(project) == {"events.ip": "3/d"}


def test_rate_is_tidied(service: Service, project: Project) -> None:
    put(logged_in("operator"), project, "submit.user", " 30/m , 1000/h ")
    assert own(project) == {"submit.user": "30/m,1000/h"}


@pytest.mark.parametrize(
    ("rule", "rate", "why"),
    [
        ("events.user", "10", "rate such as 10/m"),
        ("events.user", "-1/m", "rate such as 10/m"),
        ("events.user", "10/m,", "rate such as 10/m"),
        ("events.user", "<b>", "&lt;b&gt;"),
        ("events.user", "9" * 300, "rate such as 10/m"),
    ],
)
def test_what_is_no_rate_is_refused_where_it_was_written(
    service: Service, project: Project, rule: str, rate: str, why: str
) -> None:
    page = put(logged_in("operator"), project, rule, rate)
    assert why in page
    assert page.count('class="wrong"') == 1
    assert own(project) == {}


@pytest.mark.parametrize("rule", ["auth.ip", "nonsense", ""])
def test_rule_a_project_has_not_is_refused(service: Service, project: Project, rule: str) -> None:
    put(logged_in("operator"), project, rule, "1/m")
    assert own(project) == {}


def test_change_is_on_record_with_what_was_before(service: Service, project: Project) -> None:
    put(logged_in("operator"), project, "events.ip", "5/m")
    entry = LogEntry.objects.get(change_message__contains=f"of {project.project} is")
    assert entry.change_message == (
        f"events.ip of {project.project} is 5 in 1 minute; "
        f"it was {budget(settings.RATE_LIMITS['events.ip'])}."
    )


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_change_projects_changes_limits(
    service: Service, project: Project, role: str
) -> None:
    client = logged_in(role)
    may = role in {"operator", "admin"}
    assert ("Rate of events.user" in client.get(page_of(project)).text) == may
    answer = client.post(page_of(project), {"rule": "events.user", "rate": "1/m"})
    assert answer.status_code == (302 if may else 403)
    assert bool(own(project)) == may


def test_unknown_project_has_no_limits(service: Service) -> None:
    assert logged_in("operator").get("/admin/ingest/project/999999/limits/").status_code == 404
    assert logged_in().get("/admin/ingest/project/999999/limits/").status_code == 403
