"""Dimensions and policy in the admin: who changes them, what is refused, what is on record."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.forms import modelform_factory
from django.test import Client

from aggregation.admin.counting import PolicyForm
from aggregation.models import Dimension, Mode, Policy
from privacy.models import AuditEntry
from tests.aggregation.releasing import day, released, spent
from tests.harness import Project, Service
from tests.ingest.traces import project_id
from tests.people import ROLES, logged_in

LIST = "/admin/aggregation/counting/"
MAY = {"operator", "admin"}
MAY_SHOW = {"privacy officer", "admin"}


@pytest.fixture
def officer(service: Service) -> Client:
    return logged_in("privacy officer")


@pytest.fixture
def operator(service: Service) -> Client:
    return logged_in("operator")


def page_of(project: Project) -> str:
    return f"{LIST}{project_id(project)}/change/"


def save(client: Client, project: Project, *dimensions: dict[str, Any], **policy: Any) -> Any:
    """What the page answers; dimensions that have an `id` are there already."""
    pk = project_id(project)
    there = [dimension for dimension in dimensions if "id" in dimension]
    fields: dict[str, Any] = {
        "dimensions-TOTAL_FORMS": len(dimensions),
        "dimensions-INITIAL_FORMS": len(there),
        "policy-TOTAL_FORMS": 1,
        "policy-INITIAL_FORMS": Policy.objects.filter(pk=pk).count(),
        "policy-0-project": pk,
    }
    whole = {
        "mode": "threshold",
        "threshold": 5,
        "daily_epsilon": 1,
        "lifetime_epsilon": 365,
        "most_events": 20,
        "most_names": 5,
        "event_days": "",
        "point_days": "",
        **policy,
    }
    fields |= {f"policy-0-{name}": value for name, value in whole.items()}
    for number, dimension in enumerate(dimensions):
        row = {"project": pk, "name": "n", "path": "level", "event": "", **dimension}
        fields |= {f"dimensions-{number}-{name}": value for name, value in row.items()}
    return client.post(page_of(project), fields, follow=True)


def of(project: Project) -> list[tuple[str, str, str]]:
    found = Dimension.objects.filter(project_id=project_id(project)).order_by("pk")
    return list(found.values_list("name", "path", "event"))


def entries(project: Project, action: str = "threshold.lowered") -> list[dict[str, Any]]:
    found = AuditEntry.objects.filter(project_id=project_id(project), action=action)
    return list(found.order_by("number").values_list("details", flat=True))


@pytest.mark.parametrize("role", ROLES)
def test_each_role_changes_what_is_its_business(
    project: Project, service: Service, role: str
) -> None:
    client = logged_in(role)
    assert project.project in client.get(LIST, {"q": project.project}).text
    page = client.get(page_of(project))
    assert page.status_code == 200
    assert ('name="_save"' in page.text) == (role in MAY | MAY_SHOW)
    save(client, project, {"name": "version", "path": "client_version"})
    assert of(project) == ([("version", "client_version", "")] if role in MAY else [])
    there = Dimension.objects.filter(project_id=project_id(project)).values("id", "name", "path")
    answer = save(client, project, *map(dict, there), threshold=2, event_days=30)
    assert answer.status_code == (200 if role in MAY | MAY_SHOW else 403)
    policy = Policy.objects.filter(pk=project_id(project)).first() or Policy()
    assert policy.threshold == (2 if role in MAY_SHOW else 5)
    assert policy.event_days == (30 if role in MAY else None)
    assert entries(project) == ([{"before": 5, "after": 2}] if role in MAY_SHOW else [])


def test_dimensions_are_added_changed_and_taken_away(project: Project, operator: Client) -> None:
    save(operator, project, {"name": "v", "path": "client_version"}, {"path": "properties.plugin"})
    first, second = Dimension.objects.filter(project_id=project_id(project)).order_by("pk")
    save(
        operator,
        project,
        {"id": first.pk, "name": "v", "path": "client_version", "DELETE": "on"},
        {"id": second.pk, "path": "properties.plugin", "event": "loaded"},
    )
    assert of(project) == [("n", "properties.plugin", "loaded")]
    assert "n" in operator.get(LIST, {"q": project.project}).text
    assert LogEntry.objects.filter(object_id=project_id(project), user__isnull=False).count() == 2


@pytest.mark.parametrize(
    ("dimensions", "sentence"),
    [
        ([{"path": "properties.userId"}], "tells persons, devices or sessions apart"),
        ([{"path": "message"}], "A path is one of"),
        ([{"name": "event"}], "counts by name"),
        ([{}, {}], "duplicate"),
        ([{"name": "all"}, {"name": "one", "event": "loaded"}], "can&#x27;t count all events"),
        ([{"name": f"n{number}"} for number in range(6)], "at most 5"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_saved(
    project: Project, operator: Client, dimensions: list[dict[str, Any]], sentence: str
) -> None:
    answer = save(operator, project, *dimensions)
    assert answer.status_code == 200
    assert sentence in answer.text
    assert of(project) == []


def test_a_threshold_that_is_lowered_is_in_the_audit_log(project: Project, officer: Client) -> None:
    for threshold in (10, 10, 7, 5, 6):
        save(officer, project, threshold=threshold)
    assert entries(project) == [{"before": 10, "after": 7}, {"before": 7, "after": 5}]
    assert Policy.objects.get(pk=project_id(project)).threshold == 6


def test_for_how_long_data_is_kept_is_in_the_audit_log(project: Project, operator: Client) -> None:
    for policy in ({}, {"event_days": 9}, {"event_days": 9}, {"point_days": 2}):
        save(operator, project, **policy)
    assert entries(project, "retention.changed") == [
        {"event_days": 9},
        {"event_days": "as everywhere", "point_days": 2},
    ]


@pytest.mark.parametrize("policy", [{"threshold": 0}, {"threshold": 1001}, {"event_days": 0}])
def test_a_policy_has_bounds(project: Project, service: Service, policy: dict[str, int]) -> None:
    answer = save(logged_in("admin"), project, **policy)
    assert "Ensure this value is" in answer.text
    assert not Policy.objects.filter(pk=project_id(project)).exists()


def test_the_first_threshold_is_lower_than_the_default(project: Project, officer: Client) -> None:
    save(officer, project, threshold=2)
    assert entries(project) == [{"before": 5, "after": 2}]


def test_the_projects_page_leads_there(project: Project, operator: Client) -> None:
    page = operator.get(f"/admin/ingest/project/{project_id(project)}/change/")
    assert page_of(project) in page.text


# --- private mode ---


def recorded(project: Project) -> list[tuple[str, Any]]:
    found = AuditEntry.objects.filter(project_id=project_id(project)).order_by("number")
    return list(found.values_list("action", "details"))


def test_an_operator_leaves_how_persons_are_protected(project: Project, operator: Client) -> None:
    save(operator, project, mode="private", daily_epsilon=5, most_events=7, event_days=30)
    policy = Policy.objects.get(pk=project_id(project))
    assert (policy.mode, policy.daily_epsilon, policy.most_events) == ("threshold", 1, 20)
    assert policy.event_days == 30


def test_private_mode_begins_with_the_next_day_and_is_on_record(
    project: Project, officer: Client
) -> None:
    save(officer, project, mode="private", daily_epsilon="0.5", lifetime_epsilon=100)
    policy = Policy.objects.get(pk=project_id(project))
    assert (policy.mode, policy.private_from) == ("private", day(-1))
    assert recorded(project) == [("mode.changed", {"before": "threshold", "after": "private"})]
    save(officer, project, mode="private", daily_epsilon="0.5", lifetime_epsilon=100)
    assert len(recorded(project)) == 1
    page = officer.get(page_of(project)).text
    assert "± 300 events, ± 30 people" in page
    assert "0.00 of 100.00" in page
    assert "enough for 200 more" in page
    assert "private" in officer.get(LIST, {"q": project.project}).text


def test_the_budget_that_is_raised_is_on_record(project: Project, officer: Client) -> None:
    for daily, lifetime in ((1, 365), (2, 365), (1, 400), ("0.5", 300)):
        save(officer, project, daily_epsilon=daily, lifetime_epsilon=lifetime)
    assert recorded(project) == [
        ("epsilon.raised", {"budget": "daily", "before": "1.00", "after": "2.00"}),
        ("epsilon.raised", {"budget": "lifetime", "before": "365.00", "after": "400.00"}),
    ]


def test_a_project_may_go_back_until_a_day_is_released(project: Project, officer: Client) -> None:
    save(officer, project, mode="private")
    save(officer, project)
    policy = Policy.objects.get(pk=project_id(project))
    assert policy.mode == "threshold"
    save(officer, project, mode="private")
    released(project, day(), 10, 3)
    answer = save(officer, project)
    assert "stays private" in answer.text
    policy.refresh_from_db()
    assert policy.mode == "private"
    assert [action for action, _ in recorded(project)] == ["mode.changed"] * 3


def test_private_mode_begins_anew_with_the_day_after_it_is_chosen_again(
    project: Project, officer: Client
) -> None:
    Policy.objects.create(project_id=project_id(project), private_from=day(20))
    save(officer, project, mode="private")
    assert Policy.objects.get(pk=project_id(project)).private_from == day(-1)


def test_two_who_choose_private_mode_at_once_agree_since_when(
    project: Project, service: Service
) -> None:
    policy = Policy.objects.create(project_id=project_id(project), private_from=day(20))
    read_before = Policy.objects.get(pk=policy.pk)
    Policy.objects.filter(pk=policy.pk).update(mode=Mode.PRIVATE, private_from=day(-1))
    read_before.mode = Mode.PRIVATE
    read_before.full_clean()
    assert read_before.private_from == day(-1), "not a day that was seen without noise"


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"most_names": 21}, "more names than events"),
        ({"daily_epsilon": 5, "lifetime_epsilon": 3}, "enough for a day"),
        ({"lifetime_epsilon": "1.5"}, "2.00 are spent already"),
        ({"event_days": 1}, "needs events of 2 days"),
        ({"daily_epsilon": 0}, "greater than or equal to 0.01"),
        ({"daily_epsilon": "10.01"}, "less than or equal to 10"),
        ({"most_events": 0}, "greater than or equal to 1"),
    ],
)
def test_terms_that_can_not_hold_are_refused_with_a_sentence(
    project: Project, service: Service, policy: dict[str, Any], sentence: str
) -> None:
    spent(project, since=10)
    for ago in range(2, 10):
        released(project, day(ago), 10, 3)
    answer = save(logged_in("admin"), project, mode="private", **policy)
    assert sentence in answer.text
    assert Policy.objects.get(pk=project_id(project)).lifetime_epsilon == Decimal("0.5")


def test_what_changed_since_the_page_was_read_stays(project: Project, service: Service) -> None:
    pk = project_id(project)
    read = Policy.objects.create(project_id=pk)
    Policy.objects.filter(pk=pk).update(events_from=day(3), threshold=9)
    form_type = modelform_factory(Policy, form=PolicyForm, fields=["event_days", "threshold"])
    form = form_type({"event_days": 30, "threshold": 5}, instance=read)
    assert form.is_valid(), form.errors
    form.save()
    policy = Policy.objects.get(pk=pk)
    assert (policy.event_days, policy.events_from, policy.threshold) == (30, day(3), 9)
