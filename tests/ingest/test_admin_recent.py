"""Recent events: what arrived last, whatever became of it; opening the page is on record."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core import signing
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingest import recent
from ingest.recent import Asked, arrivals
from privacy.subjects import Pseudonyms
from tests.harness import Project, Service
from tests.ingest.sending import accepted, batch, event, moment, send, settled
from tests.ingest.traces import project_id
from tests.ingest.waiting import plant, record
from tests.people import logged_in

RECENT = "/admin/ingest/event/"


def opened(project: Project, query: str = "", role: str = "operator") -> str:
    answer = logged_in(role).get(f"{RECENT}?project={project_id(project)}&{query}")
    assert answer.status_code == 200, answer
    return answer.text


def names(project: Project, **asked: str) -> list[list[str]]:
    """The names of the events of each batch that is shown."""
    found = arrivals(Asked(project_id(project), **asked))
    return [[row.name for row in one.rows] for one in found.latest]


def test_what_arrived_last_is_shown_first(service: Service, project: Project) -> None:
    for name in ("earlier_one", "later_one"):
        settled(service, project, accepted(send(service, project, batch(event(name), event(name)))))
    assert names(project) == [["later_one"] * 2, ["earlier_one"] * 2]
    page = opened(project)
    assert page.index("later_one") < page.index("earlier_one")


def test_event_that_occurred_long_before_it_arrived_is_found_by_its_batch(
    service: Service, project: Project
) -> None:
    late = batch(event("late", timestamp=moment(timedelta(days=20))))
    settled(service, project, accepted(send(service, project, late)))
    (one,) = arrivals(Asked(project_id(project))).latest
    assert (one.rows, one.others) == ([], 1)
    assert names(project, batch=late["batch_id"]) == [["late"]]


def test_measurements_are_shown_too(service: Service, project: Project) -> None:
    metrics = {"node_id": "eu-1", "metrics": [
        {"name": "requests", "type": "counter", "value": 12},
        {"name": "latency", "type": "histogram", "value": [1.5, 2]},
        {"name": "sizes", "type": "summary", "value": {"count": 2, "sum": 5, "min": 1, "max": 4}},
    ]}  # fmt: skip
    settled(service, project, accepted(send(service, project, metrics, path="/v1/metrics")))
    page = opened(project)
    for told in ("requests", "12 eu-1", "1.5, 2", "2 of 1.0 to 4.0"):
        assert told in page, told


def test_batches_of_every_state_are_shown(service: Service, project: Project) -> None:
    plant(project, [record()], state="dead", dead=1, error="22P02: planted")
    send(service, project, b"{")
    page = opened(project)
    assert "22P02: planted" in page
    assert "malformed_json" in page


def test_batch_that_waits_says_so(service: Service, project: Project) -> None:
    with service.database() as other, other.transaction(force_rollback=True):
        other.execute("LOCK TABLE ingest_event IN SHARE MODE")  # storing waits, reading doesn't
        send(service, project, batch())
        assert "accepted, waits to be stored" in opened(project)


def test_duplicate_shares_its_id_with_its_original_and_not_its_events(
    service: Service, project: Project
) -> None:
    content = batch(event("once"))
    settled(service, project, accepted(send(service, project, content)))
    send(service, project, content)
    assert sorted(names(project)) == [[], ["once"]]


def test_name_and_format_narrow_it(service: Service, project: Project) -> None:
    for name in ("wanted", "other"):
        settled(service, project, accepted(send(service, project, batch(event(name)))))
    assert names(project, name="wanted") == [["wanted"]]
    assert names(project, format="metrics") == []
    assert len(names(project, format="events")) == 2


def test_person_is_a_short_pseudonym(service: Service, project: Project) -> None:
    from django.conf import settings

    sent = batch(event(user_id="ada-lovelace"))
    settled(service, project, accepted(send(service, project, sent)))
    subject = Pseudonyms(settings.PEPPER, project_id(project)).subject("ada-lovelace").hex()
    page = opened(project)
    assert subject[:8] in page
    assert subject[:9] not in page
    assert "ada-lovelace" not in page


def test_tables_too_busy_to_be_searched_are_said_to_be(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(service, project, accepted(send(service, project, batch())))
    with service.database() as other, other.transaction(force_rollback=True):
        other.execute("LOCK TABLE ingest_event IN ACCESS EXCLUSIVE MODE")
        found = arrivals(Asked(project_id(project)))
    assert not found.complete
    assert [one.batch.stored for one in found.latest] == [1]


def test_number_of_queries_does_not_grow(service: Service, project: Project) -> None:
    counts = []
    for more in (1, 10):
        for _ in range(more):
            settled(service, project, accepted(send(service, project, batch(event(), event()))))
        with CaptureQueriesContext(connection) as captured:
            arrivals(Asked(project_id(project)))
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 12


def test_only_so_many_batches_are_shown(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "BATCHES", 2)
    now = timezone.now()
    rows = [plant(project, [record()], state="stored", received_at=now - timedelta(seconds=age))
            for age in (3, 2, 1)]  # fmt: skip
    found = arrivals(Asked(project_id(project)))
    assert [one.batch.pk for one in found.latest] == [rows[2].pk, rows[1].pk]


# --- looking is recorded ---


def test_opening_is_recorded_once_and_refreshing_is_not(service: Service, project: Project) -> None:
    client = logged_in("operator")
    page = client.get(f"{RECENT}?project={project_id(project)}").text
    address = page.partition('hx-get="')[2].partition('"')[0]
    assert address.startswith(f"{RECENT}latest/?opened=")
    settled(service, project, accepted(send(service, project, batch(event("fresh")))))
    for _ in range(3):
        assert "fresh" in client.get(address).text
    assert LogEntry.objects.filter(object_id=project.project).count() == 1
    assert logged_in("operator").get(address).status_code == 403, "somebody else's page"


def test_refreshing_needs_a_page_that_was_opened(service: Service, project: Project) -> None:
    client = logged_in("operator")
    for forged in ("", "x", signing.dumps({"project": project_id(project)})):
        assert client.get(f"{RECENT}latest/", {"opened": forged}).status_code == 403
    assert client.get(RECENT).status_code == 200
    assert not LogEntry.objects.filter(object_id=project.project)


def test_page_that_is_open_for_too_long_stops(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest.admin import recent as page

    monkeypatch.setattr(page, "OPENED_SECONDS", -1)
    token = signing.dumps({"project": project_id(project), "by": 1}, salt="recent events")
    assert logged_in("operator").get(f"{RECENT}latest/", {"opened": token}).status_code == 286


@pytest.mark.parametrize("query", ["project=x", "project=999999999", "project=9999999999999"])
def test_project_that_there_is_not_is_refused(service: Service, query: str) -> None:
    assert logged_in("operator").get(f"{RECENT}?{query}").status_code == 400


def test_viewer_may_not_look(service: Service, project: Project) -> None:
    assert logged_in("viewer").get(RECENT).status_code == 403
    assert logged_in("viewer").get(f"{RECENT}latest/").status_code == 403


def test_waits_are_bounded() -> None:
    assert recent.PATIENCE_MILLISECONDS < 500
