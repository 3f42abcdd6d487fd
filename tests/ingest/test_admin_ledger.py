"""The ledger's page: each batch found by what is known of it, in bounded looks; nothing told of
its content."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ingest import selections
from ingest.models import Batch, Event, RejectedEvent
from ingest.selections import AGES, Selection, look
from tests.harness import Project, Service
from tests.ingest.sending import accepted, batch, event, send, settled
from tests.ingest.traces import ledger, project_id
from tests.ingest.waiting import plant, record
from tests.people import logged_in

LEDGER = "/admin/ingest/batch/"


def listed(query: str) -> str:
    """The list that this query asks for."""
    answer = logged_in("viewer").get(f"{LEDGER}?{query}")
    assert answer.status_code == 200, answer
    return answer.text


def shows(page: str, row: Batch) -> bool:
    return f"{LEDGER}{row.key}/change/" in page


# --- finding ---


def test_each_filter_shows_what_it_asks_for_and_hides_the_rest(
    service: Service, project: Project
) -> None:
    mixed = batch(event(), 7)
    stored = accepted(send(service, project, mixed))
    settled(service, project, stored)
    send(service, project, mixed)
    send(service, project, b"{")
    one, twin, refused = ledger(project)
    old = plant(project, [record()], state="stored", received_at=timezone.now() - timedelta(days=1))
    of_project = f"project={project_id(project)}"
    expected = {
        "": {one, twin, refused, old},
        "state=stored": {one, old},
        "state=duplicate": {twin},
        "state=rejected": {refused},
        "state=dead": set(),
        "format=events": {one, twin, refused, old},
        "format=metrics": set(),
        "age=under-1h": {one, twin, refused},
        "age=over-1h": {old},
        f"day={old.day}": {old},
        "error=malformed_json": {refused},
        f"state=stored&day={one.day}&age=under-1d": {one},
    }
    for asked, rows in expected.items():
        page = listed(f"{of_project}&{asked}")
        assert {row for row in (one, twin, refused, old) if shows(page, row)} == rows, asked


@pytest.mark.parametrize("state", ["rejected", "stored"])
def test_state_is_shown_of_all_projects(service: Service, project: Project, state: str) -> None:
    row = plant(project, [record()], state=state)
    assert shows(listed(f"state={state}"), row)
    assert not shows(listed("state=discarded"), row)


def test_batch_is_found_by_each_of_its_ids(service: Service, project: Project) -> None:
    request_id = f"req-{uuid4().hex[:8]}"
    content = batch()
    settled(
        service, project, accepted(send(service, project, content, {"X-Request-ID": request_id}))
    )
    (row,) = ledger(project)
    for term in (content["batch_id"], str(content["batch_id"]).upper(), str(row.pk), request_id):
        assert shows(listed(f"q={term}"), row), term
        assert not shows(listed(f"q={term}&state=rejected"), row), term
    assert "Nothing matches" in listed(f"q={uuid4()}")


def test_refused_batch_is_found_by_its_request_id(service: Service, project: Project) -> None:
    """All its client has of it: the answer's X-Request-ID, which we made."""
    answer = send(service, project, b"{")
    (row,) = ledger(project)
    assert shows(listed(f"q={answer.headers['x-request-id']}"), row)


@pytest.mark.parametrize("query", ["state=none", "project=x", "day=yesterday", "age=old", "p=201"])
def test_nonsense_is_refused(service: Service, query: str) -> None:
    answer = logged_in("viewer").get(f"{LEDGER}?{query}")
    assert (answer.status_code, answer["Location"]) == (302, f"{LEDGER}?e=1")


# --- bounds ---


def test_only_so_many_rows_are_looked_through_and_the_page_says_so(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    rows = [
        plant(project, [record()], state="stored", received_at=now - timedelta(seconds=age),
              request_id=f"r-{age}")
        for age in (9, 5, 3, 1)
    ]  # fmt: skip
    asked = f"project={project_id(project)}&q=r-9"
    assert shows(listed(asked), rows[0])
    monkeypatch.setattr(selections, "LOOKED_THROUGH", 2)
    page = listed(asked)
    assert not shows(page, rows[0])
    assert f"as far as {rows[1].received_at:%Y-%m-%d %H:%M:%S} UTC" in " ".join(page.split())
    assert shows(listed(f"project={project_id(project)}&q=r-3"), rows[2])
    everything = listed(f"project={project_id(project)}")
    assert all(shows(everything, row) for row in rows), "an index answers: nothing to bound"


@pytest.mark.parametrize("oldest_first", [False, True])
def test_look_reaches_from_the_end_it_starts_at(
    service: Service, project: Project, monkeypatch: pytest.MonkeyPatch, oldest_first: bool
) -> None:
    monkeypatch.setattr(selections, "LOOKED_THROUGH", 3)
    rows = [plant(project, [record()], state="stored") for _ in range(6)]
    mine = Batch.objects.filter(project_id=project_id(project))
    found = look(mine, ("day", "id"), Q(state="stored"), oldest_first=oldest_first)
    edge, expected = (rows[3], rows[:4]) if oldest_first else (rows[2], rows[:1:-1])
    assert found.until == edge.received_at
    assert [row.pk for row in found.rows] == [row.pk for row in expected]


def test_ages_are_of_both_directions() -> None:
    assert {age.oldest_first for age in AGES.values()} == {True, False}


def test_selection_is_the_same_after_a_round_through_an_address() -> None:
    whole = Selection("dead", 7, "events", datetime.now(UTC).date(), "over-1h", "a: b")
    assert Selection.parse(whole.given) == whole
    assert Selection.parse(Selection().given) == Selection()


def test_number_of_queries_is_the_same_for_one_batch_and_for_many(
    service: Service, project: Project
) -> None:
    client = logged_in("viewer")
    address = f"{LEDGER}?project={project_id(project)}&state=stored"

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(address).status_code == 200
        assert not [query for query in captured if "COUNT(" in query["sql"].upper()]
        return len(captured)

    plant(project, [record()], state="stored")
    one = queries()
    for _ in range(20):
        plant(project, [record()], state="stored")
    assert queries() == one <= 20


# --- one batch ---


def test_page_of_a_batch_tells_all_that_is_known_but_its_payload(
    service: Service, project: Project
) -> None:
    content = batch(event(plugin="never-shown"), 7, {"event": "no time", "user_id": "u"})
    settled(service, project, accepted(send(service, project, content)))
    (row,) = ledger(project)
    page = logged_in("viewer").get(f"{LEDGER}{row.key}/change/").text
    for told in (content["batch_id"], row.request_id, project.project, "1 stored · 2 rejected",
                 "Missing required field: timestamp", "user_id: string"):  # fmt: skip
        assert str(told) in page, told
    assert "never-shown" not in page


def test_page_of_a_duplicate_leads_to_the_batch_it_repeats(
    service: Service, project: Project
) -> None:
    events = [event()]
    send(service, project, events)
    send(service, project, events)
    first, twin = ledger(project)
    page = logged_in("viewer").get(f"{LEDGER}{twin.key}/change/").text
    assert f'<a href="{LEDGER}{first.key}/change/">{first.batch_id}</a>' in page


@pytest.mark.parametrize(
    "key", ["2026-01-01-1", "2026-13-01-1", "7", "x", "2026-01-01-99999999999999999999"]
)
def test_batch_that_there_is_not_is_not_found(service: Service, key: str) -> None:
    assert logged_in("viewer").get(f"{LEDGER}{key}/change/").status_code == 404


def test_page_of_a_batch_is_for_those_who_may_see_the_ledger(
    service: Service, project: Project
) -> None:
    row = plant(project, [record()], state="stored")
    assert logged_in().get(f"{LEDGER}{row.key}/change/").status_code == 403


def test_nothing_of_the_ledger_is_changed_from_its_page(service: Service, project: Project) -> None:
    row = plant(project, [record()], state="stored")
    client = logged_in("admin")
    for below in ("change/", "delete/"):
        client.post(f"{LEDGER}{row.key}/{below}", {"state": "dead", "post": "yes"})
    assert Batch.objects.get(day=row.day, pk=row.pk).state == "stored"


# --- rejected events ---


def rejected(query: str) -> str:
    answer = logged_in("viewer").get(f"/admin/ingest/rejectedevent/?{query}")
    assert answer.status_code == 200, answer
    return answer.text


def test_rejected_events_are_listed_with_reason_and_shape_and_lead_to_their_batch(
    service: Service, project: Project
) -> None:
    send(service, project, [{"event": "no time", "user_id": "somebody-very-secret"}])
    (row,) = ledger(project)
    page = rejected(f"project={project_id(project)}")
    assert shows(page, row)
    for told in ("missing_field", "Missing required field: timestamp", ">user_id<"):
        assert told in page
    assert "somebody-very-secret" not in page


def test_rejected_events_are_filtered_by_each_field(service: Service, project: Project) -> None:
    send(service, project, [{"event": "no time", "user_id": "u"}])
    send(service, project, [event(timestamp="not a time")])
    missing, invalid = ledger(project)
    assert RejectedEvent.objects.filter(batch__in=[missing.pk, invalid.pk]).count() == 2
    of_project = f"project={project_id(project)}"
    for asked, rows in {
        "": {missing, invalid},
        "code=missing_field": {missing},
        "code=invalid_timestamp": {invalid},
        "field=timestamp": {missing, invalid},
        "field=event": set(),
        "format=events": {missing, invalid},
        "format=submit": set(),
        f"day={missing.day}": {missing, invalid},
        f"day={missing.day - timedelta(days=1)}": set(),
    }.items():
        page = rejected(f"{of_project}&{asked}")
        assert {row for row in (missing, invalid) if shows(page, row)} == rows, asked


def test_malformed_batches_are_counted_and_lead_to_the_ledger(
    service: Service, project: Project
) -> None:
    for _ in range(3):
        send(service, project, b"{")
    rows = ledger(project)
    of_project = f"project={project_id(project)}"
    page = rejected(of_project)
    address = f"{LEDGER}?{of_project}&amp;state=rejected&amp;error=malformed_json"
    assert address in page
    found = listed(address.partition("?")[2].replace("&amp;", "&"))
    assert all(shows(found, row) for row in rows)


@pytest.mark.parametrize("query", ["project=x", "day=soon"])
def test_nonsense_is_refused_of_rejected_events_too(service: Service, query: str) -> None:
    answer = logged_in("viewer").get(f"/admin/ingest/rejectedevent/?{query}")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/ingest/rejectedevent/?e=1")


def test_events_of_a_batch_are_in_no_list_of_the_ledger(service: Service, project: Project) -> None:
    send(service, project, batch(event("a-name-of-an-event")))
    assert "a-name-of-an-event" not in listed(f"project={project_id(project)}")
    assert Event.objects.filter(project_id=project_id(project)).count() <= 1
