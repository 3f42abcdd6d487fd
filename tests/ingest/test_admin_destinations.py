"""The page of the destinations: where they are, how they are, and a try before its time."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingest.models import Delivery, Destination
from ingest.models import Project as Row
from tests.harness import Project, Service, wait_for
from tests.ingest.outbox import (
    NOWHERE,
    SOMEWHERE,
    backing_off,
    deliver,
    forwarding_to,
    own_destination,
)
from tests.people import ROLES, logged_in

DESTINATIONS = "/admin/ingest/destination/"
SENDING_SECONDS = 30


@pytest.fixture(autouse=True)
def _nothing_is_left_waiting(service: Service) -> Iterator[None]:
    """A delivery that is late is none of other tests' business."""
    yield
    Delivery.objects.filter(destination__endpoint=NOWHERE).delete()


def line_of(destination: Destination, role: str = "viewer") -> str:
    """What the page says of one, as text in one line; nothing where it isn't listed."""
    answer = logged_in(role).get(DESTINATIONS)
    assert answer.status_code == 200
    panels = re.findall(
        r'<section class="panel destination">(.*?)</section>', answer.text, re.DOTALL
    )
    name = destination.project.slug if destination.project else "The instance"
    found = [panel for panel in panels if f"<h2>{name}</h2>" in panel]
    return " ".join(re.sub(r"<[^>]+>", " ", " ".join(found)).split())


def changed(destination: Destination, **columns: Any) -> Destination:
    Destination.objects.filter(pk=destination.pk).update(**columns)
    destination.refresh_from_db()
    return destination


# --- how they are ---


def test_destination_is_told_of_in_words(service: Service, project: Project) -> None:
    now = timezone.now()
    found = own_destination(project)
    assert "unused Nothing was sent there yet." in line_of(found)
    changed(found, endpoint=SOMEWHERE, last_status=200, last_success_at=now)
    told = line_of(found)
    assert "delivering" in told
    assert f"Endpoint {SOMEWHERE} , protobuf" in told
    assert f"Last taken {now:%Y-%m-%d %H:%M:%S} UTC" in told
    changed(
        found, last_status=401, last_error="who are <you>?",
        last_error_at=now + timedelta(seconds=1),
    )  # fmt: skip
    assert "refuses It answers" in line_of(found)
    assert "401 who are &lt;you&gt;?" in line_of(found)
    changed(found, failures=7, failing_since=now, retry_at=now + timedelta(minutes=3))
    told = line_of(found)
    assert f"backs off Failing since {now:%Y-%m-%d %H:%M:%S} UTC, 7 requests in a row." in told
    assert re.search(r"Nothing is sent until \d\d:\d\d:\d\d UTC, in \d+ (s|min)\.", told)
    changed(found, retry_at=now)
    assert "failing Failing since" in line_of(found)
    Row.objects.filter(slug=project.project).update(otlp_endpoint="https://other.example.com/?k=v")
    told = line_of(found)
    assert "unused" in told, "what is known is of the endpoint before"
    assert "Endpoint https://other.example.com/ , protobuf" in told, "without what may be secret"


def test_lag_is_the_age_of_the_oldest_that_waits(service: Service, project: Project) -> None:
    found = backing_off(project)
    for hours in (1, 5, 3):
        since = timezone.now() - timedelta(hours=hours)
        deliver(found, "waiting", signal="metrics" if hours == 3 else "logs", waiting_since=since)
    for state in ("dead", "expired", "delivered"):
        deliver(found, state)
    assert "Waiting 3 , the oldest for 5 h Not delivered 2 " in line_of(found)


def test_what_is_left_of_a_destination_that_was_taken_away_is_told(
    service: Service, project: Project
) -> None:
    found = own_destination(project)
    Row.objects.filter(slug=project.project).update(otlp_endpoint="")
    assert line_of(found) == ""
    deliver(found)
    assert "unset What is left waits until an endpoint is set again." in line_of(found)


def test_instances_is_listed_where_the_settings_have_one(service: Service) -> None:
    instances = Destination.objects.get(project=None)
    assert line_of(instances) == ""
    with forwarding_to("http://collector:4318?token=secret"):
        told = line_of(instances)
    assert "The instance unused" in told
    assert "Endpoint http://collector:4318 , protobuf" in told
    assert "secret" not in told


def test_number_of_queries_does_not_grow(service: Service) -> None:
    client = logged_in("viewer")
    counts = []
    for more in (1, 5):
        for number in range(more):
            row, _ = Row.objects.create_with_keys(f"one of {more}, {number} {timezone.now()}")
            deliver(own_destination(Project(row.slug, "", "", "")))
        with CaptureQueriesContext(connection) as captured:
            assert client.get(DESTINATIONS).status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 20


def test_a_collector_that_is_away_leaves_the_service_ready(
    service: Service, project: Project
) -> None:
    deliver(backing_off(project), "waiting", waiting_since=timezone.now() - timedelta(hours=1))
    answer = service.request("GET", "/readyz")
    assert answer.status == 200
    assert not answer.json["checks"]["forwarding"]["ok"]


# --- a try before its time ---


def test_try_now_has_the_worker_try_at_once(service: Service, project: Project) -> None:
    found = backing_off(project)
    waiting = deliver(found, "waiting")
    assert "Try now" in line_of(found, "operator")
    client = logged_in("operator")
    told = client.post(f"{DESTINATIONS}try/", {"destination": found.pk}, follow=True).text
    assert "It is tried now" in told
    # Nothing of the delivery is stored, and so there is nothing to be sent.
    wait_for(
        lambda: type(waiting).objects.get(pk=waiting.pk).state == "delivered",
        SENDING_SECONDS, "the worker to look at it",
    )  # fmt: skip
    assert LogEntry.objects.filter(change_message__startswith="It is tried now").exists()


def test_second_click_does_nothing(service: Service, project: Project) -> None:
    found, client = backing_off(project), logged_in("operator")
    for told in ("It is tried now", "doesn&#x27;t back off"):
        page = client.post(f"{DESTINATIONS}try/", {"destination": found.pk}, follow=True).text
        assert told in page


@pytest.mark.parametrize("number", ["", "x", "-1", "9" * 18, "9" * 500, "1 OR 1=1"])
def test_nonsense_is_tried_by_nobody(service: Service, project: Project, number: str) -> None:
    found = backing_off(project)
    answer = logged_in("operator").post(f"{DESTINATIONS}try/", {"destination": number}, follow=True)
    assert answer.status_code == 200
    assert "It is tried now" not in answer.text
    before = found.retry_at
    found.refresh_from_db()
    assert found.retry_at == before


@pytest.mark.parametrize("role", ROLES)
def test_operators_and_admins_may_try_and_others_look(
    service: Service, project: Project, role: str
) -> None:
    found, may = backing_off(project), role in {"operator", "admin"}
    assert ("Try now" in line_of(found, role)) == may
    client = logged_in(role)
    answer = client.post(f"{DESTINATIONS}try/", {"destination": found.pk})
    assert answer.status_code == (302 if may else 403)
    assert client.get(f"{DESTINATIONS}try/").status_code == 405
    found.refresh_from_db()
    assert (found.retry_at is None) == may
